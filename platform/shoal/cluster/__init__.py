"""Where pods come from: local processes here."""

"""`shoal package`."""

"""`shoal runtime`."""

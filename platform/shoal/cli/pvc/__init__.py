"""`shoal pvc`."""

"""`shoal apply`, `get`, `describe`, `delete`, `wait`."""

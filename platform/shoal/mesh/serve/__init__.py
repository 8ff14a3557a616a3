"""The mesh as a process: its start, its ports, its metrics."""

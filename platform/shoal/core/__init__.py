"""Decisions without I/O: events in, actions out."""

"""Runs the core: events in, actions out."""

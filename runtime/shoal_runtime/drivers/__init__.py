"""One driver per model server. Nothing outside of a driver knows what server is behind it."""

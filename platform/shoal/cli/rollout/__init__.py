"""`shoal rollout`."""

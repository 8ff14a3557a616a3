"""Progressive rollouts: how an endpoint moves from one revision to another step by step, watched, and back by itself."""

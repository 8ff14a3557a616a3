"""Progressive rollouts: how an endpoint moves to another revision step by step, watched, and back by itself."""

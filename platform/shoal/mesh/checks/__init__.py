"""What a rollout is judged by: requests that were answered, shadowed and asked, warm-up, and what the outside says."""

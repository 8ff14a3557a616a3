"""What a progressive rollout needs of the mesh: durable records, warm-up, checks, figures, and how it is shown."""

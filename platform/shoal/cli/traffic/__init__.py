"""`shoal infer`, `logs`, `top`, `why`, `release`."""

"""Which pod, what to evict, how many copies: one function each."""

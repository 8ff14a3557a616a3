"""What runs inside an MLServer process of a shared pod: the cure for its habits there. See `__main__`."""

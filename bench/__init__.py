"""Reproducible benchmarks: every figure is compared with another of the same run."""

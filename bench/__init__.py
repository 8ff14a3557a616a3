"""Reproducible benchmarks: every figure is compared with another of the same run."""

import os

# Benchmarks start processes while they speak gRPC; its own handling of forks then now and then closes what is in use.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

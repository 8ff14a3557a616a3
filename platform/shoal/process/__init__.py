"""Local processes, for whoever runs some: the supervisor, the embedded kubelet, and the launch of the Dagster UI.

They are started in groups of their own, get a signal from the kernel when their supervisor dies, are started again with
back-off, and carry a mark, by which the next start finds and ends what their own children left behind.
"""

from shoal.process.backoff import Backoff, BackoffPolicy
from shoal.process.child import Child, Command, dying_with_parent, signal_group, start, started
from shoal.process.leftovers import INSTANCE_VARIABLE, end_leftovers, is_of, leftovers
from shoal.process.logs import log_end, trim_log

__all__ = [
    "INSTANCE_VARIABLE",
    "Backoff",
    "BackoffPolicy",
    "Child",
    "Command",
    "dying_with_parent",
    "end_leftovers",
    "is_of",
    "leftovers",
    "log_end",
    "signal_group",
    "start",
    "started",
    "trim_log",
]

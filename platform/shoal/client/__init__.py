"""The Python client of a Shoal cluster: declare models, follow and steer rollouts, send requests.

It talks to the Kubernetes API (a cluster's or the embedded one) and to the mesh through that API's service proxy, so
whoever may use the API needs no other address and no other credentials.

    from shoal.client import ShoalClient

    client = ShoalClient.from_state_dir()
    rollout = client.roll_out(manifest, by="me")
    for report in client.follow("fraud", rollout.id, timeout=600) if rollout else ():
        print(report.phase, report.weight)
"""

from shoal.client.client import ShoalClient
from shoal.client.errors import NotFound, Refused, ShoalError, TimedOut, Unreachable
from shoal.client.reports import CheckReport, PastRollout, RevisionReport, RolloutReport, TimelineEntry

__all__ = [
    "CheckReport",
    "NotFound",
    "PastRollout",
    "Refused",
    "RevisionReport",
    "RolloutReport",
    "ShoalClient",
    "ShoalError",
    "TimedOut",
    "TimelineEntry",
    "Unreachable",
]

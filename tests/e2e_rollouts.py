"""Looking at rollouts as programs do."""

from __future__ import annotations

from typing import Any

from e2e_support import Cluster
from shoal.client import ShoalClient, ShoalError


def rollout_status(cluster: Cluster, name: str) -> dict[str, Any]:
    """The newest rollout of an InferenceService; empty while there is none, or nobody to ask."""
    try:
        with ShoalClient.from_state_dir(cluster.root) as client:
            return client.rollout(name).model_dump(by_alias=True)
    except ShoalError:
        return {}

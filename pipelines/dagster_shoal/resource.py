"""`ShoalResource`: the cluster that models are rolled out to, and how runs behave towards it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field

import dagster as dg
from shoal.client import ShoalClient
from shoal.client.embedded import gateway_of
from shoal.statedir import state_dir

OnCancel = Literal["pause", "abort", "leave"]


class ShoalResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A Shoal cluster: the embedded one of a state directory, or the one of a kubeconfig.

    With neither `state_dir` nor `kubeconfig` nor `context` it is the embedded cluster that the `shoal` command uses.
    Within a pod set `in_cluster`.

        ShoalResource(state_dir=dg.EnvVar("SHOAL_STATE_DIR"))
        ShoalResource(kubeconfig="~/.kube/config", context="prod", namespace="models", gateway="https://models.example.com")
    """

    state_dir: str = Field(default="", description="State directory of an embedded cluster (`shoal up --state-dir`).")
    kubeconfig: str = Field(default="", description="Kubeconfig of a cluster.")
    context: str = Field(default="", description="Context of the kubeconfig; empty: its current one.")
    in_cluster: bool = Field(default=False, description="Use the service account of the pod this runs in.")
    namespace: str = Field(default="modelmesh-serving", description="Namespace of the InferenceServices.")
    gateway: str = Field(
        default="", description="Base URL of the gateway's REST endpoint; empty: the API server's proxy."
    )
    poll_interval: float = Field(default=0.5, gt=0, le=60, description="Seconds between two looks at a rollout.")
    poll_timeout: float = Field(
        default=86400.0,
        gt=0,
        description="Seconds a run follows a rollout; the rollout goes on in the mesh after that.",
    )
    on_cancel: OnCancel = Field(
        default="pause", description="What becomes of a rollout when the run that follows it is cancelled."
    )
    adopt: bool = Field(
        default=True, description="Follow a rollout to the same revision that is under way already, instead of failing."
    )
    dagster_url: str = Field(
        default="", description="Base URL of the Dagster UI, for links in the history of rollouts."
    )

    @contextmanager
    def client(self) -> Iterator[ShoalClient]:
        """A client, closed afterwards.

        Raises:
            ShoalError: the kubeconfig cannot be used, or no cluster was started.
        """
        with self._connect() as client:
            yield client

    def _connect(self) -> ShoalClient:
        if self.kubeconfig or self.context or self.in_cluster:
            return ShoalClient.from_kubeconfig(
                self.kubeconfig or None, self.context or None, self.namespace, self.gateway
            )
        return ShoalClient.from_state_dir(self.state_dir or None, self.namespace)

    @property
    def embedded(self) -> Path | None:
        """State directory of the embedded cluster; None: it is another cluster."""
        if self.kubeconfig or self.context or self.in_cluster:
            return None
        return state_dir(self.state_dir or None)

    def endpoint_url(self, service: str) -> str:
        """Where an InferenceService is asked; a path only where the gateway's address is not known."""
        root = self.embedded
        base = self.gateway or (gateway_of(root) if root else "")
        return f"{base.rstrip('/')}/v2/models/{service}"

    def run_link(self, run_id: str) -> str:
        """The run as others can find it: its address, or its id where the UI's address is not known."""
        return f"{self.dagster_url.rstrip('/')}/runs/{run_id}" if self.dagster_url else f"dagster run {run_id}"

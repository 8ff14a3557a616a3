"""Trains in a pod of its own, through Dagster Pipes: more memory, a GPU, another image.

The run and the pod see the same work folder: `ModelStore.work_dir` must be on a volume that both mount at the same
path (`pod_spec` says how the pod does), since training data and model files may be large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_shoal.execution.script import extras_of, reported
from dagster_shoal.model import Parameters

if TYPE_CHECKING:
    from dagster_k8s import PipesK8sClient

_POLL_SECONDS = 1.0
"""The client's own default of 10 s would be most of the time a small model trains."""
_START_SECONDS = 600.0
"""An image may have to be pulled, a node to be started."""


@dataclass(frozen=True)
class PodTrainer:
    """A pod of the cluster the run is in, or of the current kubeconfig.

    PodTrainer(image="registry/fraud-train:1", command=["python", "train.py"], pod_spec={...})
    """

    image: str
    command: Sequence[str] = ()
    """Empty: the image's."""
    namespace: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    pod_spec: Mapping[str, Any] = field(default_factory=dict)
    """Volumes, resources, node selectors, service account: merged with what runs the image, as `base_pod_spec`."""
    context: str | None = None
    """Of the kubeconfig; None: the current one, or the pod's own cluster."""
    pod_seconds: float = _START_SECONDS
    """Longest time until the pod runs."""

    def run(
        self, context: dg.AssetExecutionContext, *, data: Path, into: Path, parameters: Parameters
    ) -> Mapping[str, Any]:
        """See `Trainer.run`.

        Raises:
            DagsterK8sError: the pod could not be started, or failed.
            Failure: it wrote no file.
        """
        done = self.client().run(
            context=context,
            image=self.image,
            command=list(self.command) or None,
            namespace=self.namespace,
            env=dict(self.env),
            base_pod_spec=dict(self.pod_spec) or None,
            extras=extras_of(data, into, parameters),
            pod_wait_timeout=self.pod_seconds,
        )
        return reported(done, into)

    def client(self) -> PipesK8sClient:
        """What starts pods and reads what they report."""
        from dagster_k8s import PipesK8sClient

        return PipesK8sClient(kube_context=self.context, poll_interval=_POLL_SECONDS)

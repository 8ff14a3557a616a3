"""Makes a Deployment's pods what its plan says, and writes its status."""

from __future__ import annotations

import logging
import random
import time
from typing import Any

from shoal.cluster.errors import ApiRequestError
from shoal.cluster.kube_client import DEPLOYMENTS, PODS, Object
from shoal.cluster.kubelet.host import Host
from shoal.cluster.kubelet.plan import HASH_LABEL, PodFact, deployment_status, plan, rollout_of, template_hash
from shoal.cluster.kubelet.podstatus import keep_times, seconds_of, timestamp
from shoal.cluster.kubelet.worker import FINALIZER

log = logging.getLogger(__name__)
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""As in names Kubernetes generates: no vowels, so no words."""


class DeploymentController:
    """Reconciles all Deployments of the namespace."""

    def __init__(self, host: Host, rng: random.Random | None = None) -> None:
        self._host = host
        self._rng = rng or random.Random()

    async def reconcile(self) -> None:
        """One round.

        Raises:
            ApiError: the API refused a change.
            ApiUnreachableError: it does not answer.
        """
        deployments = {d["metadata"]["uid"]: d for d in self._host.deployments}
        owned: dict[str, list[Object]] = {uid: [] for uid in deployments}
        for pod in self._host.pods:
            owner = owner_of(pod)
            if owner is None:
                continue
            if owner in owned:
                owned[owner].append(pod)
            elif not pod["metadata"].get("deletionTimestamp"):
                await self._delete(pod["metadata"]["name"])  # its Deployment is gone
        for uid, deployment in deployments.items():
            if not deployment["metadata"].get("deletionTimestamp"):
                await self._reconcile(deployment, owned[uid])

    async def _reconcile(self, deployment: Object, pods: list[Object]) -> None:
        spec = deployment["spec"]
        current = template_hash(spec["template"])
        rollout = rollout_of(spec)
        facts = [fact_of(pod, current) for pod in pods]
        step = plan(rollout, facts)
        for name in step.delete:
            await self._delete(name)
        for _ in range(step.create):
            created = await self._host.client.create(PODS, self._host.namespace, self._pod(deployment, current))
            self._host.pods.put(created)
        if step.create or step.delete:
            self._host.wake()
        await self._write_status(deployment, facts)

    async def _delete(self, name: str) -> None:
        await self._host.client.delete(PODS, self._host.namespace, name)
        # Not to delete it again before the watch tells of it.
        pod = self._host.pods.get(name)
        if pod is not None and not pod["metadata"].get("deletionTimestamp"):
            metadata = {**pod["metadata"], "deletionTimestamp": timestamp(time.time())}
            self._host.pods.put({**pod, "metadata": metadata})

    def _pod(self, deployment: Object, current: str) -> Object:
        template = deployment["spec"]["template"]
        metadata = template.get("metadata") or {}
        name = deployment["metadata"]["name"]
        suffix = "".join(self._rng.choices(_ALPHABET, k=5))
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-{current}-{suffix}",
                "namespace": self._host.namespace,
                "labels": {**(metadata.get("labels") or {}), HASH_LABEL: current},
                "annotations": dict(metadata.get("annotations") or {}),
                "finalizers": [FINALIZER],
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "Deployment",
                        "name": name,
                        "uid": deployment["metadata"]["uid"],
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": {**template["spec"], "nodeName": self._host.node},
        }

    async def _write_status(self, deployment: Object, facts: list[PodFact]) -> None:
        before: dict[str, Any] = deployment.get("status") or {}
        generation = int(deployment["metadata"].get("generation", 1))
        status = deployment_status(rollout_of(deployment["spec"]), facts, generation, timestamp(time.time()))
        status["conditions"] = keep_times(status["conditions"], before.get("conditions") or ())
        if all(before.get(key) == value for key, value in status.items()):
            return
        name = deployment["metadata"]["name"]
        try:
            updated = await self._host.client.merge(
                DEPLOYMENTS, self._host.namespace, name, {"status": status}, "status"
            )
        except ApiRequestError as error:
            if error.code == 404:
                return
            raise
        self._host.deployments.put(updated)


def owner_of(pod: Object) -> str | None:
    """The uid of the Deployment a pod belongs to, or None."""
    for reference in pod["metadata"].get("ownerReferences") or ():
        if reference.get("kind") == "Deployment":
            return str(reference["uid"])
    return None


def fact_of(pod: Object, current: str) -> PodFact:
    """A pod as the plan sees it."""
    metadata = pod["metadata"]
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return PodFact(
        name=metadata["name"],
        current=(metadata.get("labels") or {}).get(HASH_LABEL) == current,
        ready=any(c["type"] == "Ready" and c["status"] == "True" for c in conditions),
        created=seconds_of(metadata["creationTimestamp"]) if "creationTimestamp" in metadata else 0.0,
        stopping="deletionTimestamp" in metadata,
    )

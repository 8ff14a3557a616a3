"""What every pod of the local kubelet shares: the API, the mirrors, directories, addresses, images and events."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pydantic

from shoal.cluster.errors import ApiRequestError, ApiUnreachableError
from shoal.cluster.kube_client import CLAIMS, CONFIG_MAPS, DEPLOYMENTS, EVENTS, PODS, SECRETS, KubeClient, Object
from shoal.cluster.kubelet.containers import Image, Mount
from shoal.cluster.kubelet.mirror import Mirror
from shoal.cluster.kubelet.podstatus import timestamp
from shoal.cluster.kubelet.volumes import config_map_values, secret_values
from shoal.cluster.layout import Layout
from shoal.cluster.network import PodAddresses, Subnet
from shoal.process import INSTANCE_VARIABLE, BackoffPolicy

log = logging.getLogger(__name__)
PVC_MOUNTS = "/pvc_mounts"
"""Every claim is mounted below this path in every pod."""
_INHERITED = (
    "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY",
    "NO_PROXY",
)  # fmt: skip
"""What containers inherit of this process's environment; anything else a manifest must say."""


class ImageFile(pydantic.BaseModel):
    """`image.json` of a locally built image."""

    command: list[str] = pydantic.Field(min_length=1)
    env: dict[str, str] = {}
    workdir: str | None = None


def base_env(instance: str) -> dict[str, str]:
    """The environment every process of an instance starts from; programs of this Python's environment come first."""
    programs = str(Path(sys.executable).parent)
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    env["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    return env | {"PYTHONUNBUFFERED": "1", INSTANCE_VARIABLE: instance}


@dataclass(slots=True)
class Host:
    """The node, as the kubelet's parts see it. `wake` asks for another round of reconciling."""

    client: KubeClient
    layout: Layout
    subnet: Subnet
    namespace: str
    wake: Callable[[], None]
    policy: BackoffPolicy = field(default_factory=BackoffPolicy)
    node: str = field(default_factory=lambda: os.uname().nodename.lower())
    deployments: Mirror = field(init=False)
    pods: Mirror = field(init=False)
    secrets: Mirror = field(init=False)
    config_maps: Mirror = field(init=False)
    claims: Mirror = field(init=False)
    addresses: PodAddresses = field(init=False)

    def __post_init__(self) -> None:
        self.deployments, self.pods, self.secrets, self.config_maps, self.claims = (
            Mirror(self.client, resource, self.namespace, self.wake)
            for resource in (DEPLOYMENTS, PODS, SECRETS, CONFIG_MAPS, CLAIMS)
        )
        self.addresses = PodAddresses(self.subnet)

    @property
    def mirrors(self) -> tuple[Mirror, ...]:
        """All of them."""
        return (self.deployments, self.pods, self.secrets, self.config_maps, self.claims)

    @property
    def fixed_mounts(self) -> tuple[Mount, ...]:
        """What every container has mounted."""
        return (Mount(PVC_MOUNTS, str(self.layout.pvcs)),)

    def secret(self, name: str) -> dict[str, str] | None:
        """A Secret's values as text."""
        found = self.secrets.get(name)
        return None if found is None else {k: v.decode("utf-8", "replace") for k, v in secret_values(found).items()}

    def config_map(self, name: str) -> dict[str, str] | None:
        """A ConfigMap's values as text."""
        found = self.config_maps.get(name)
        return None if found is None else {k: v.decode("utf-8", "replace") for k, v in config_map_values(found).items()}

    def image(self, name: str) -> Image | None:
        """A locally built image, or None."""
        if not name or name in (".", ".."):
            return None
        path = self.layout.images / name / "image.json"
        try:
            document = ImageFile.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, pydantic.ValidationError) as error:
            log.warning("%s is not an image description, build it anew: %s", path, error)
            return None
        return Image(document.command, document.env, document.workdir)

    async def _create_or_count(self, name: str, body: Object) -> None:
        try:
            await self.client.create(EVENTS, self.namespace, body)
        except ApiRequestError as error:
            if error.code != 409:
                raise
            before = await self.client.get(EVENTS, self.namespace, name)
            if before is not None:
                again = {"count": int(before.get("count") or 1) + 1, "lastTimestamp": body["lastTimestamp"]}
                await self.client.merge(EVENTS, self.namespace, name, again)

    async def event(self, pod: Object, kind: str, reason: str, message: str) -> None:
        """Write an Event about a pod, or count the one that says the same. Without the API it is only logged."""
        metadata = pod["metadata"]
        now = timestamp(time.time())
        identity = "\n".join((str(metadata.get("uid", "")), kind, reason, message))
        name = f"{metadata['name']}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        body: Object = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": self.namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata["name"],
                "namespace": self.namespace,
                "uid": metadata.get("uid", ""),
            },
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": "kubelet", "host": self.node},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._create_or_count(name, body)
        except (ApiRequestError, ApiUnreachableError) as error:
            log.debug("event %s %s: %s", reason, metadata["name"], error)

"""PersistentVolumeClaims: each is a directory of this machine, made when the claim is, kept when it goes."""

from __future__ import annotations

import logging

from shoal.cluster.errors import ApiRequestError
from shoal.cluster.kube_client import CLAIMS, Object
from shoal.cluster.kubelet.host import Host

log = logging.getLogger(__name__)


async def bind_claims(host: Host) -> None:
    """Make every claim's directory, and bind those that are not bound yet.

    Raises:
        ApiError: the API refused a change.
        ApiUnreachableError: it does not answer.
    """
    for claim in host.claims:
        if claim["metadata"].get("deletionTimestamp"):
            continue
        try:
            (host.layout.pvcs / claim["metadata"]["name"]).mkdir(exist_ok=True)
            if (claim.get("status") or {}).get("phase") != "Bound":
                await _bind(host, claim)
        except OSError as error:
            log.warning("claim %s: %s", claim["metadata"]["name"], error)
        except ApiRequestError as error:
            if error.code not in (404, 409):
                raise


async def _bind(host: Host, claim: Object) -> None:
    name = claim["metadata"]["name"]
    spec = claim.get("spec") or {}
    if not spec.get("volumeName"):
        volume = f"pvc-{claim['metadata']['uid']}"
        await host.client.merge(CLAIMS, host.namespace, name, {"spec": {"volumeName": volume}})
    requested = ((spec.get("resources") or {}).get("requests") or {}).get("storage", "1Gi")
    status = {"phase": "Bound", "accessModes": spec.get("accessModes") or [], "capacity": {"storage": requested}}
    updated = await host.client.merge(CLAIMS, host.namespace, name, {"status": status}, "status")
    host.claims.put(updated)

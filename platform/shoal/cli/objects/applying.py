"""`shoal apply`: the server merges every object, and the outcome is told as kubectl tells it."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from shoal.apiserver.apply import LAST_APPLIED
from shoal.cli import session
from shoal.cli.errors import CliError
from shoal.cli.objects.kinds import by_manifest
from shoal.cli.objects.lastapplied import MANAGER, is_settled, memory_of, recorded, taken_over, without_memory
from shoal.cli.objects.manifests import read_manifests
from shoal.cli.output import note, show
from shoal.cluster.errors import ApiRequestError
from shoal.cluster.kube_client import APPLY_PATCH, MERGE_PATCH, ApiResource, KubeClient, Object, warnings_of

_WRITER = {"fieldManager": MANAGER}
_STRICT = {"fieldValidation": "Strict"}
_TRIES = 5
_INVALID = 422


def apply_files(target: session.SessionTarget, files: Sequence[str]) -> None:
    """Apply all manifests; one that is refused does not keep the others back.

    Raises:
        CliError: some were refused.
    """
    manifests = read_manifests(files)
    session.run(target, lambda client: _apply_all(client, target.namespace, manifests))


async def _apply_all(client: KubeClient, namespace: str, manifests: list[tuple[str, Object]]) -> None:
    refused: list[str] = []
    for where, manifest in manifests:
        try:
            resource = await by_manifest(client, manifest)
            outcome = await _apply(client, resource, namespace, manifest)
        except (ApiRequestError, CliError) as error:
            message = session.explain(error) if isinstance(error, ApiRequestError) else str(error)
            refused.append(f"{where}: {manifest['kind']} {manifest['metadata']['name']}: {message}")
        else:
            show(f"{full_name(resource, manifest['metadata']['name'])} {outcome}")
    for line in refused[:-1]:
        note(f"error: {line}")
    if refused:
        raise CliError(refused[-1])


def full_name(resource: ApiResource, name: str) -> str:
    """Such as `inferenceservice.serving.kserve.io/sklearn-mnist`."""
    kind = resource.kind.lower()
    return f"{kind}.{resource.group}/{name}" if resource.group else f"{kind}/{name}"


async def _apply(client: KubeClient, resource: ApiResource, namespace: str, manifest: Object) -> str:
    metadata = manifest["metadata"]
    inside = metadata.get("namespace") or namespace
    if resource.namespaced:
        manifest = {**manifest, "metadata": {**metadata, "namespace": inside}}
    manifest = without_memory(manifest)
    for _ in range(_TRIES):
        before = await client.get(resource, inside, metadata["name"])
        try:
            if before is None:
                await _create(client, resource, inside, manifest)
                return "created"
            after = await _change(client, resource, inside, manifest, before)
        except ApiRequestError as error:
            # Somebody else wrote in between; what this client states by itself never conflicts.
            if error.code != 409:
                raise
            conflict = error
        else:
            return "configured" if _declared(before) != _declared(after) else "unchanged"
    raise conflict


async def _create(client: KubeClient, resource: ApiResource, namespace: str, manifest: Object) -> None:
    annotations = (manifest["metadata"].get("annotations") or {}) | memory_of(manifest)
    remembered = {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}
    response = await client.request("POST", resource.path(namespace), params=_WRITER | _STRICT, body=remembered)
    _tell_warnings(response)


async def _change(
    client: KubeClient, resource: ApiResource, namespace: str, manifest: Object, before: Object
) -> Object:
    """Apply a manifest to an object that exists: how it is afterwards."""
    path = resource.path(namespace, manifest["metadata"]["name"])
    managed, entries = before["metadata"].get("managedFields") or [], taken_over(before)
    try:
        _tell_warnings(await _server_apply(client, path, manifest, dry=True))
    except ApiRequestError as error:
        # What this apply is to take away is still there, and may be what is wrong beside what the manifest states.
        if error.code != _INVALID or entries == managed:
            raise
    if is_settled(before, manifest):
        return before
    # Only what `shoal apply` manages can go, so this comes first; a manifest that is refused leaves it as it was.
    if entries != managed:
        await _manage(client, path, before, entries, {})
    try:
        after: Object = (await _server_apply(client, path, manifest)).json()
    except ApiRequestError:
        live = await client.get(resource, namespace, manifest["metadata"]["name"])
        if live is not None and live["metadata"].get("managedFields") == entries != managed:
            await _manage(client, path, live, managed, {})
        raise
    return await _manage(client, path, after, recorded(after), memory_of(manifest))


async def _server_apply(client: KubeClient, path: str, manifest: Object, *, dry: bool = False) -> httpx.Response:
    params = _WRITER | _STRICT | {"force": "true"} | ({"dryRun": "All"} if dry else {})
    return await client.request("PATCH", path, params=params, body=manifest, content_type=APPLY_PATCH)


async def _manage(client: KubeClient, path: str, live: Object, entries: list[Object], memory: dict[str, str]) -> Object:
    """Say who manages which field, of the very version that was read."""
    metadata: Object = {"resourceVersion": live["metadata"]["resourceVersion"], "managedFields": entries}
    if memory:
        metadata["annotations"] = memory
    patch = {"metadata": metadata}
    changed: Object = await client.json("PATCH", path, params=_WRITER, body=patch, content_type=MERGE_PATCH)
    return changed


def _tell_warnings(response: httpx.Response) -> None:
    for warning in warnings_of(response):
        note(f"warning: {warning}")


def _declared(item: Object) -> Object:
    """The object without what the server keeps (who manages which field, versions, status) and without the memory."""
    kept = ("managedFields", "resourceVersion", "generation", "annotations")
    metadata = {k: v for k, v in item["metadata"].items() if k not in kept}
    annotations = {k: v for k, v in (item["metadata"].get("annotations") or {}).items() if k != LAST_APPLIED}
    return {k: v for k, v in item.items() if k != "status"} | {"metadata": metadata, "annotations": annotations}

"""`shoal delete`: by name or by manifest."""

from __future__ import annotations

import asyncio
import time

from shoal.cli import session
from shoal.cli.errors import CliError, CommandTimedOut, UsageProblem
from shoal.cli.objects.applying import full_name
from shoal.cli.objects.kinds import by_manifest, by_name
from shoal.cli.objects.manifests import read_manifests
from shoal.cli.output import note, show
from shoal.cluster.kube_client import CLAIMS, ApiResource, KubeClient

_GONE_SECONDS = 120.0
_POLL_SECONDS = 0.1


def delete_objects(
    target: session.SessionTarget,
    kind: str | None,
    names: tuple[str, ...],
    files: tuple[str, ...],
    *,
    ignore_missing: bool,
    wait_gone: bool,
) -> None:
    """`shoal delete`.

    Raises:
        CliError: an object does not exist, or does not go.
    """
    if kind is not None and "/" in kind:
        kind, _, first = kind.partition("/")
        names = (first, *names)
    if bool(files) == bool(kind) or (kind and not names):
        raise UsageProblem("say what to delete: `shoal delete KIND NAME` or `shoal delete -f FILE`")

    async def work(client: KubeClient) -> None:
        doomed = await _doomed(client, target.namespace, kind, names, files)
        missing = [await _delete(client, *each) for each in doomed]
        if wait_gone:
            for each in doomed:
                await _until_gone(client, *each)
        for resource, _, name in doomed if target.embedded else ():
            directory = target.layout.pvcs / name
            if resource == CLAIMS and directory.is_dir():
                note(f"its files stay in {directory}, where a new claim of this name finds them")
        absent = [name for name in missing if name]
        if absent and not ignore_missing:
            raise CliError(f"{', '.join(absent)} not found")

    session.run(target, work)


async def _doomed(
    client: KubeClient, namespace: str, kind: str | None, names: tuple[str, ...], files: tuple[str, ...]
) -> list[tuple[ApiResource, str, str]]:
    if kind is not None:
        resource = await by_name(client, kind)
        return [(resource, namespace, name) for name in names]
    found: list[tuple[ApiResource, str, str]] = []
    for _, manifest in reversed(read_manifests(files)):
        metadata = manifest["metadata"]
        found.append((await by_manifest(client, manifest), metadata.get("namespace") or namespace, metadata["name"]))
    return found


async def _delete(client: KubeClient, resource: ApiResource, namespace: str, name: str) -> str | None:
    """The name of the object if it does not exist."""
    if not await client.delete(resource, namespace, name):
        return full_name(resource, name)
    show(f"{full_name(resource, name)} deleted")
    return None


async def _until_gone(client: KubeClient, resource: ApiResource, namespace: str, name: str) -> None:
    deadline = time.monotonic() + _GONE_SECONDS
    while (item := await client.get(resource, namespace, name)) is not None:
        if not item["metadata"].get("deletionTimestamp"):
            return  # made anew meanwhile
        if time.monotonic() > deadline:
            held = ", ".join(item["metadata"].get("finalizers") or ()) or "nothing known"
            raise CommandTimedOut(f"{full_name(resource, name)} is not gone after {_GONE_SECONDS:g} s; held by {held}")
        await asyncio.sleep(_POLL_SECONDS)

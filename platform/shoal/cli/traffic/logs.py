"""`shoal logs`: of pods through the API, of the embedded cluster's own parts from their files."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from pathlib import Path

from shoal.cli import session
from shoal.cli.errors import CliError
from shoal.cli.objects.kinds import INFERENCE_SERVICES, known
from shoal.cli.output import show
from shoal.cluster.kube_client import PODS, KubeClient, Object

PARTS = ("mesh", "gateway", "apiserver", "supervisor")
_FOLLOW_SECONDS = 0.2


def show_logs(
    target: session.SessionTarget, what: str, container: str | None, *, follow: bool, tail: int | None
) -> None:
    """`shoal logs`.

    Raises:
        CliError: there is nothing of that name.
    """
    if what in PARTS and target.embedded:
        path = target.layout.log_of(what)
        asyncio.run(_file(path, what, follow=follow, tail=tail))
    else:
        session.run(target, lambda client: _pods(client, target.namespace, what, container, follow, tail))


async def _file(path: Path, part: str, *, follow: bool, tail: int | None) -> None:
    try:
        file = path.open("r", errors="replace")
    except FileNotFoundError:
        raise CliError(f"{part} has no log yet ({path})") from None
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
    with file:
        for line in file if tail is None else deque(file, tail):
            show(line.rstrip("\n"))
        while follow:
            line = file.readline()
            if line:
                show(line.rstrip("\n"))
                continue
            if os.fstat(file.fileno()).st_size < file.tell():  # it was moved away and begins anew
                file.seek(0)
            await asyncio.sleep(_FOLLOW_SECONDS)


async def _pods(
    client: KubeClient, namespace: str, what: str, container: str | None, follow: bool, tail: int | None
) -> None:
    streams = [
        (pod["metadata"]["name"], name)
        for pod in await _pods_of(client, namespace, what)
        for name in _containers(pod, container)
    ]
    labelled = len(streams) > 1
    work = [
        _stream(client, namespace, pod, name, f"[{pod[-5:]} {name}] " if labelled else "", follow, tail)
        for pod, name in streams
    ]
    if follow:
        await asyncio.gather(*work)
        return
    for each in work:
        await each


async def _pods_of(client: KubeClient, namespace: str, what: str) -> list[Object]:
    kind, slash, name = what.partition("/")
    if slash and known(kind) == INFERENCE_SERVICES:
        return await _pods_with(client, namespace, name)
    pod_name = name if slash and known(kind) == PODS else what
    pod = await client.get(PODS, namespace, pod_name)
    if pod is None:
        raise CliError(
            f"there is no pod {pod_name!r} in namespace {namespace}; parts of the cluster are {', '.join(PARTS)}"
        )
    return [pod]


async def _pods_with(client: KubeClient, namespace: str, service: str) -> list[Object]:
    if await client.get(INFERENCE_SERVICES, namespace, service) is None:
        raise CliError(f"there is no isvc {service!r} in namespace {namespace}")
    document = await session.mesh_json(client, namespace, "/copies")
    names = {copy["pod"] for copy in document["copies"] if str(copy["revision"]).rsplit("__isvc-", 1)[0] == service}
    pods = [pod for name in sorted(names) if (pod := await client.get(PODS, namespace, name)) is not None]
    if not pods:
        raise CliError(f"no pod holds {service!r} now; `shoal describe isvc {service}` says why")
    return pods


def _containers(pod: Object, wanted: str | None) -> list[str]:
    names = [container["name"] for container in pod["spec"]["containers"]]
    if wanted is None:
        return names
    if wanted not in names:
        raise CliError(f"pod {pod['metadata']['name']} has no container {wanted!r}; there are {', '.join(names)}")
    return [wanted]


async def _stream(
    client: KubeClient, namespace: str, pod: str, container: str, label: str, follow: bool, tail: int | None
) -> None:
    params = {"container": container} | ({"follow": "true"} if follow else {})
    if tail is not None:
        params["tailLines"] = str(tail)
    async for line in client.lines(PODS.path(namespace, pod, "log"), params):
        show(label + line)

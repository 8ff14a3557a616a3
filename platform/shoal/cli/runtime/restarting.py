"""`shoal runtime restart`, and which pods need it: those that still run what an image was before it was built anew."""

from __future__ import annotations

from datetime import UTC, datetime

from shoal import statedir
from shoal.cli import session
from shoal.cli.errors import CliError
from shoal.cli.output import show
from shoal.cluster import lock
from shoal.cluster.kube_client import DEPLOYMENTS, PODS, KubeClient, Object
from shoal.cluster.kubelet.containers import image_name
from shoal.controller.pods import RUNTIME_ANNOTATION

_RESTARTED = "kubectl.kubernetes.io/restartedAt"
"""What `kubectl rollout restart` sets: a template that differs makes new pods."""


def tell_outdated(target: session.SessionTarget, image: str) -> None:
    """Say which pods go on with what a local image was, and how they get what it is now. Silent where nothing runs."""
    if lock.holder(target.layout.lock) is None:
        return
    try:
        pods = session.run(target, lambda client: _running(client, target.namespace, image))
    except CliError as error:
        show(f"note: pods that run {image} already keep what was built before (they cannot be listed: {error})")
        return
    where = "" if target.state_dir == statedir.state_dir() else f" --state-dir {target.state_dir}"
    for runtime, names in sorted(pods.items()):
        how = "a pod that runs keeps" if len(names) == 1 else f"{len(names)} pods that run keep"
        show(
            f"note: {how} what was built before ({', '.join(sorted(names))}); start new ones, without a gap, by "
            f"`shoal runtime restart {runtime}{where}`"
        )


async def _running(client: KubeClient, namespace: str, image: str) -> dict[str, list[str]]:
    """Pods that run an image, by runtime."""
    found: dict[str, list[str]] = {}
    for pod in (await client.list(PODS, namespace))[0]:
        runtime = (pod["metadata"].get("annotations") or {}).get(RUNTIME_ANNOTATION)
        if runtime and not pod["metadata"].get("deletionTimestamp") and _runs(pod, image):
            found.setdefault(runtime, []).append(pod["metadata"]["name"])
    return found


def _runs(pod: Object, image: str) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return any("running" in each["state"] and image_name(str(each.get("image", ""))) == image for each in statuses)


def restart(target: session.SessionTarget, runtime: str) -> None:
    """Have new pods made for a runtime; each of the old ones goes when a new one is ready.

    Raises:
        CliError: the runtime has no pods.
    """
    session.run(target, lambda client: _restart(client, target.namespace, runtime))
    show(f"the pods of {runtime} are replaced one after the other; see `shoal get pods`")


async def _restart(client: KubeClient, namespace: str, runtime: str) -> None:
    deployments, _ = await client.list(DEPLOYMENTS, namespace)
    for deployment in deployments:
        template = deployment["spec"]["template"]
        if (template["metadata"].get("annotations") or {}).get(RUNTIME_ANNOTATION) == runtime:
            stamp = datetime.now(UTC).isoformat(timespec="microseconds")
            patch = {"spec": {"template": {"metadata": {"annotations": {_RESTARTED: stamp}}}}}
            await client.merge(DEPLOYMENTS, namespace, deployment["metadata"]["name"], patch)
            return
    raise CliError(f"no pods were made for a ServingRuntime {runtime!r} in namespace {namespace}; `shoal get runtimes`")

"""`shoal describe`: one object in full, with its events; secrets stay secret."""

from __future__ import annotations

from typing import Any

from shoal.apiserver.apply import LAST_APPLIED
from shoal.cli import session
from shoal.cli.errors import CliError
from shoal.cli.objects.kinds import INFERENCE_SERVICES, by_name
from shoal.cli.output import age_of, as_yaml, show, table
from shoal.cluster.errors import ApiRequestError
from shoal.cluster.kube_client import EVENTS, SECRETS, ApiResource, KubeClient, Object

_MOST_EVENTS = 20


def describe_object(target: session.SessionTarget, kind: str, name: str) -> None:
    """`shoal describe`.

    Raises:
        CliError: there is no such object.
    """

    async def work(client: KubeClient) -> str:
        resource = await by_name(client, kind)
        item = await client.get(resource, target.namespace, name)
        if item is None:
            raise CliError(f"{resource.plural} {name} not found in namespace {target.namespace}")
        events = await _events(client, target.namespace, resource, name)
        copies = await _copies(client, target.namespace, name) if resource == INFERENCE_SERVICES else None
        text = describe(resource, item, events, copies)
        return f"{text}\n{await _rollout(client, target.namespace, name)}" if resource == INFERENCE_SERVICES else text

    show(session.run(target, work))


def describe(resource: ApiResource, item: Object, events: list[Object], copies: list[Object] | None = None) -> str:
    """The text."""
    metadata = item["metadata"]
    head: dict[str, Any] = {
        "Name": metadata["name"],
        "Namespace": metadata.get("namespace"),
        "Kind": f"{resource.kind} ({resource.api_version})",
        "Created": f"{metadata.get('creationTimestamp')} ({age_of(metadata.get('creationTimestamp'))} ago)",
        "Generation": metadata.get("generation"),
        "Labels": metadata.get("labels"),
        "Annotations": _without_applied(metadata.get("annotations")),
        "Being deleted since": metadata.get("deletionTimestamp"),
    }
    rest = {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata")}
    if resource == SECRETS:
        rest = {
            "type": rest.get("type"),
            "data": {k: f"{len(v)} characters" for k, v in (rest.get("data") or {}).items()},
        }
    parts = [as_yaml({key: value for key, value in head.items() if value})]
    parts += [as_yaml({key.capitalize(): value}) for key, value in rest.items() if value]
    if copies is not None:
        rows = [[c["revision"], c["pod"], c["state"], c.get("error") or ""] for c in copies]
        parts.append("Copies:\n" + (_indent(table(("REVISION", "POD", "STATE", "ERROR"), rows)) if rows else "  none"))
    parts.append("Events:\n" + (_indent(_event_table(events)) if events else "  none"))
    return "\n".join(parts)


def _without_applied(annotations: Any) -> Any:
    return {k: v for k, v in (annotations or {}).items() if k != LAST_APPLIED}


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.splitlines())


def _event_table(events: list[Object]) -> str:
    rows = [
        [
            event.get("type", ""),
            event.get("reason", ""),
            age_of(event.get("lastTimestamp") or event.get("eventTime")),
            str(event.get("count") or 1),
            event.get("message", ""),
        ]
        for event in events[-_MOST_EVENTS:]
    ]
    return table(("TYPE", "REASON", "AGE", "COUNT", "MESSAGE"), rows)


async def _events(client: KubeClient, namespace: str, resource: ApiResource, name: str) -> list[Object]:
    # Events about objects without a namespace are in the namespace `default`.
    events, _ = await client.list(EVENTS, namespace if resource.namespaced else None)
    mine = [
        event
        for event in events
        if event.get("involvedObject", {}).get("name") == name
        and event.get("involvedObject", {}).get("kind") == resource.kind
    ]
    return sorted(mine, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))


async def _rollout(client: KubeClient, namespace: str, name: str) -> str:
    """How the newest rollout stands, as `shoal rollout status` shows it."""
    from shoal.cli.rollout.view import plain, whole
    from shoal.client.reports import RolloutReport

    try:
        document = await session.mesh_json(client, namespace, f"/rollouts/{name}")
    except (CliError, ApiRequestError):
        return "Rollout:\n  none"
    return "Rollout:\n" + _indent(plain(whole(RolloutReport.model_validate(document))))


async def _copies(client: KubeClient, namespace: str, name: str) -> list[Object] | None:
    """Copies of the InferenceService's revisions; None where no mesh answers: the rest is worth showing."""
    try:
        document = await session.mesh_json(client, namespace, "/copies")
    except (CliError, ApiRequestError):
        return None
    return [copy for copy in document["copies"] if str(copy["revision"]).rsplit("__isvc-", 1)[0] == name]

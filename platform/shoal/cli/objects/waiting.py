"""`shoal wait`: until the generation last applied is in effect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from shoal.cli import session
from shoal.cli.choices import Goal, duration
from shoal.cli.errors import CliError, CommandTimedOut, UsageProblem
from shoal.cli.objects.kinds import INFERENCE_SERVICES, by_name
from shoal.cli.output import note, show
from shoal.cluster.errors import ApiRequestError
from shoal.cluster.kube_client import ApiResource, KubeClient, Object

_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class WaitProgress:
    """Whether the goal is reached and, in a few words, how things are."""

    reached: bool
    words: str


def wait_for(target: session.SessionTarget, kind: str, names: tuple[str, ...], goal: Goal, timeout: str) -> None:
    """`shoal wait`.

    Raises:
        TimedOut: with the reason from status.
    """
    seconds = duration(timeout)
    kind, slash, first = kind.partition("/")
    wanted = (first, *names) if slash else names

    async def work(client: KubeClient) -> None:
        resource = await by_name(client, kind)
        deadline = time.monotonic() + seconds
        for name in wanted:
            await _wait_one(client, resource, target.namespace, name, goal, deadline, timeout)
            show(f"{resource.kind.lower()}/{name} is {'deleted' if goal is Goal.DELETE else goal.value}")

    session.run(target, work)


async def _wait_one(
    client: KubeClient, resource: ApiResource, namespace: str, name: str, goal: Goal, deadline: float, timeout: str
) -> None:
    told = ""
    judge = judge_of(resource, goal)
    asked = False
    while True:
        item = await client.get(resource, namespace, name)
        standing = judge(item)
        if standing.reached:
            return
        if goal is Goal.LOADED and must_be_asked_for(item, asked):
            is_loaded, refusal = await _ask_for(client, namespace, name)
            if is_loaded:  # its status says so in a while
                return
            asked = asked or not refusal
            standing = WaitProgress(False, standing.words + refusal)
        if standing.words != told:
            told = standing.words
            note(f"{name}: {told}")
        if time.monotonic() >= deadline:
            raise CommandTimedOut(
                f"{resource.kind.lower()} {name} is not {goal.value} after {timeout}: {standing.words}"
            )
        await asyncio.sleep(_POLL_SECONDS)


async def _ask_for(client: KubeClient, namespace: str, name: str) -> tuple[bool, str]:
    """Have a model loaded: whether it is already, and what to add to what is said if that could not be asked for."""
    try:
        answer = await session.mesh_json(client, namespace, f"/endpoints/{quote(name, safe='')}/load", "POST")
    except (CliError, ApiRequestError) as error:
        return False, f"; asking the mesh to load it failed: {error}"
    return bool(answer.get("loaded")), ""


def judge_of(resource: ApiResource, goal: Goal) -> Callable[[Object | None], WaitProgress]:
    """How to tell whether an object of this kind reached the goal.

    Raises:
        UsageProblem: such objects have no such goal.
    """
    if goal is Goal.DELETE:
        return lambda item: WaitProgress(item is None, "it still exists")
    if goal is Goal.LOADED:
        if resource != INFERENCE_SERVICES:
            raise UsageProblem("only an isvc can be Loaded; use --for Ready")
        return loaded
    return service_ready if resource == INFERENCE_SERVICES else condition_ready


def loaded(item: Object | None) -> WaitProgress:
    """Whether the model last applied is loaded and serves."""
    pending = _not_judged(item, strict=True)
    if pending is not None:
        return pending
    status = _status(item)
    return WaitProgress(_states(status).get("activeModelState") == "Loaded" and _settled(status), words_of(status))


def must_be_asked_for(item: Object | None, asked: bool) -> bool:
    """Whether the model will not load unless somebody asks for it.

    `asked`: somebody did already; what failed since then is not tried again.
    """
    if _not_judged(item, strict=True) is not None:
        return False
    states = _states(_status(item))
    state = states.get("targetModelState") or states.get("activeModelState")
    return state == "Standby" or (state == "FailedToLoad" and not asked)


def service_ready(item: Object | None) -> WaitProgress:
    """Whether the InferenceService last applied is ready: its condition says so and no change is under way."""
    pending = _not_judged(item, strict=True)
    if pending is not None:
        return pending
    status = _status(item)
    return WaitProgress(_condition(status, "Ready") and _settled(status), words_of(status))


def condition_ready(item: Object | None) -> WaitProgress:
    """Whether any other object is ready: by its condition, or by its phase where it has no conditions."""
    pending = _not_judged(item)
    if pending is not None:
        return pending
    status = _status(item)
    if status.get("conditions"):
        ready = _condition(status, "Ready") or _condition(status, "Available")
        unready = [f"{c['type']}: {c.get('message') or c.get('reason') or c['status']}" for c in status["conditions"]]
        return WaitProgress(ready, "; ".join(unready))
    phase = str(status.get("phase", ""))
    return WaitProgress(phase in ("Bound", "Active", "Running", "Succeeded"), phase or "no status yet")


def _not_judged(item: Object | None, *, strict: bool = False) -> WaitProgress | None:
    """What is to be said before the status may be believed. `strict`: a status must say which generation it is of."""
    if item is None:
        return WaitProgress(False, "it does not exist")
    generation = item["metadata"].get("generation")
    observed = _status(item).get("observedGeneration", 0 if strict else None)
    if generation is not None and observed is not None and observed < generation:
        return WaitProgress(False, f"generation {generation} is not taken up yet")
    return None


def _status(item: Object | None) -> dict[str, Any]:
    return (item or {}).get("status") or {}


def _states(status: dict[str, Any]) -> dict[str, Any]:
    return (status.get("modelStatus") or {}).get("states") or {}


def _settled(status: dict[str, Any]) -> bool:
    """Whether no change of the model is under way or stuck."""
    model = status.get("modelStatus") or {}
    return model.get("transitionStatus", "UpToDate") in ("", "UpToDate") and not _states(status).get("targetModelState")


def _condition(status: dict[str, Any], kind: str) -> bool:
    return any(c["type"] == kind and c["status"] == "True" for c in status.get("conditions") or ())


def words_of(status: dict[str, Any]) -> str:
    """How an InferenceService stands, with the newest failure."""
    model = status.get("modelStatus") or {}
    states = _states(status)
    if not model:
        conditions = [c for c in status.get("conditions") or () if c["status"] != "True" and c.get("message")]
        return "; ".join(c["message"] for c in conditions) or "no status yet"
    words = [f"active {states.get('activeModelState') or 'Pending'}"]
    if states.get("targetModelState"):
        words.append(f"target {states['targetModelState']}")
    if model.get("transitionStatus") not in (None, "", "UpToDate"):
        words.append(model["transitionStatus"])
    failure = model.get("lastFailureInfo") or {}
    if failure.get("reason"):
        words.append(f"{failure['reason']}: {failure.get('message', '')}".rstrip(": "))
    return ", ".join(words)

"""How an InferenceService stands, read from its status: is what was declared last taken up, ready, refused? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]


def taken_up(item: Document, generation: int | None = None) -> bool:
    """Whether the status is about this generation, by default the newest, or a later one."""
    wanted = generation if generation is not None else int(item["metadata"].get("generation") or 0)
    return int(status(item).get("observedGeneration") or 0) >= wanted


def ready(item: Document, generation: int) -> bool:
    """Whether a generation serves: its condition says so and no change of the model is under way or stuck."""
    return taken_up(item, generation) and is_true(status(item), "Ready") and settled(status(item))


def settled(state: Document) -> bool:
    """Whether no change of the model is under way or stuck."""
    model = state.get("modelStatus") or {}
    return model.get("transitionStatus", "UpToDate") in ("", "UpToDate") and not states(state).get("targetModelState")


def invalid(item: Document) -> str:
    """Why the controller cannot use the spec; empty when it can."""
    model = status(item).get("modelStatus") or {}
    if model.get("transitionStatus") != "InvalidSpec":
        return ""
    return str((model.get("lastFailureInfo") or {}).get("message") or "its spec is invalid")


def status(item: Document | None) -> Document:
    """The status; empty when nobody wrote one."""
    found: Document = (item or {}).get("status") or {}
    return found


def states(state: Document) -> Document:
    """States of the active revision and the target."""
    found: Document = (state.get("modelStatus") or {}).get("states") or {}
    return found


def is_true(state: Document, kind: str) -> bool:
    """Whether a condition holds."""
    return any(c["type"] == kind and c["status"] == "True" for c in state.get("conditions") or ())


def words_of(state: Document) -> str:
    """How an InferenceService stands, with the newest failure."""
    model = state.get("modelStatus") or {}
    if not model:
        conditions = [c for c in state.get("conditions") or () if c["status"] != "True" and c.get("message")]
        return "; ".join(c["message"] for c in conditions) or "no status yet"
    words = [f"active {states(state).get('activeModelState') or 'Pending'}"]
    if states(state).get("targetModelState"):
        words.append(f"target {states(state)['targetModelState']}")
    if model.get("transitionStatus") not in (None, "", "UpToDate"):
        words.append(model["transitionStatus"])
    failure = model.get("lastFailureInfo") or {}
    if failure.get("reason"):
        words.append(f"{failure['reason']}: {failure.get('message', '')}".rstrip(": "))
    return ", ".join(words)

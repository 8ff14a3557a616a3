"""Who changed an InferenceService last, for the history of its rollouts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal.resources.rollout import ROLLOUT_BY

_MAX = 500


def started_by(metadata: Mapping[str, Any]) -> str:
    """The annotation `shoal.dev/rollout-by`, unless someone else changed the object since it was set; then, and without
    it, the field manager that changed it last, such as `kubectl-edit`."""
    told = str((metadata.get("annotations") or {}).get(ROLLOUT_BY, ""))
    entries = [entry for entry in metadata.get("managedFields") or () if not entry.get("subresource")]
    newest = max((str(entry.get("time", "")) for entry in entries), default="")
    last = [entry for entry in entries if str(entry.get("time", "")) == newest]
    if told and (not last or any(_sets_it(entry) for entry in last)):
        return told[:_MAX]
    return str(last[-1].get("manager", ""))[:_MAX] if last else ""


def _sets_it(entry: Mapping[str, Any]) -> bool:
    fields = ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:annotations") or {}
    return f"f:{ROLLOUT_BY}" in fields

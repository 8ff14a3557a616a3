"""What an InferenceService and the runtime it names do not agree about: accepted, as upstream does, with a warning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shoal.resources import inferenceservice, runtimerules
from shoal.resources.choose import Chosen, choose, requirements_of
from shoal.resources.problems import InvalidManifest
from shoal.resources.servingruntime import ServingRuntime


def warn_of_runtime(manifest: Mapping[str, Any], runtimes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The warning for an InferenceService among these ServingRuntimes and ClusterServingRuntimes, if there is one."""
    try:
        service, model = inferenceservice.parse(manifest)
    except InvalidManifest:
        return []
    if not service.is_ours or model.runtime is None:
        return []
    named = (document for document in runtimes if document["metadata"].get("name") == model.runtime)
    found = choose(requirements_of(model), list(_parsed(named)))
    return [found.warning] if isinstance(found, Chosen) and found.warning else []


def _parsed(documents: Iterable[Mapping[str, Any]]) -> Iterable[ServingRuntime]:
    for document in documents:
        try:
            yield runtimerules.parse(document)
        except InvalidManifest:
            continue

"""Evidence: what was found out about a model before it was published, and which of it a rollout needs.

Evidence travels with the model's package, signed; a rollout names what it needs (`spec.rollout.requires`), and so may
a runtime for every model given to it (annotation `shoal.dev/requires-evidence`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shoal.resources.parse import dotted, instead_of
from shoal.resources.problems import FieldProblem

REQUIRES_EVIDENCE = "shoal.dev/requires-evidence"
"""Annotation of a ServingRuntime: names of evidence, separated by commas."""
TRUSTED_KEYS = "shoal-trusted-keys"
"""ConfigMap of the namespace: name to public key (PEM) of those whose evidence counts."""
EVIDENCE = (
    "data",
    "schema",
    "metrics",
    "champion",
    "golden-replay",
    "scan",
    "signature",
    "budget",
    "approval",
)
"""The names of evidence there are."""


def required_of_runtime(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """What a runtime's annotation requires, in the order given."""
    names = (name.strip() for name in annotations.get(REQUIRES_EVIDENCE, "").split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def annotation_problems(annotations: Mapping[str, str]) -> Iterator[FieldProblem]:
    """What is wrong with a runtime's annotation."""
    for name in required_of_runtime(annotations):
        if name not in EVIDENCE:
            yield unknown_evidence(dotted(("metadata", "annotations", REQUIRES_EVIDENCE)), name)


def unknown_evidence(path: str, name: str) -> FieldProblem:
    """The problem of a name that no evidence has."""
    return FieldProblem(path, f"there is no evidence {name[:60]!r}", instead_of(name, EVIDENCE))

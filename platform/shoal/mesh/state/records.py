"""How the mesh's durable records look: models, endpoints and the summary of their use, as JSON in the registry."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from shoal.core.suspicion import Suspicion
from shoal.core.types import EndpointName, Failure, FailureReason, RevisionId, RuntimeName, Unplaceable
from shoal.mesh.api import ModelInfo

MODELS = "models/"
ENDPOINTS = "endpoints/"
SUSPICIONS = "suspicions/"
USAGE = "usage/"
USAGE_CHUNK = 5_000
"""Revisions in one usage record: keeps a record far below the registry's limit."""


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One revision: what a pod needs to load it, and what the core needs to place it."""

    id: RevisionId
    info: ModelInfo
    runtime: RuntimeName | None
    unplaceable: Unplaceable | None = None
    min_copies: int = 0
    max_copies: int = 0
    auto_delete: bool = False
    """Forgotten once no endpoint refers to it."""
    declared: bool = False
    """Its runtime was chosen by the controller, not from the type string."""
    predictor: str = ""
    """What it was declared by, as JSON: whoever goes back to it declares this again."""

    @property
    def key(self) -> str:
        """Where it is stored."""
        return MODELS + self.id

    def encode(self) -> bytes:
        """As it is stored."""
        document = {name: getattr(self, name) for name in self.__slots__}  # `asdict` takes several times as long
        document["info"] = asdict(self.info)
        if self.unplaceable:
            document["unplaceable"] = asdict(self.unplaceable) | {"reason": self.unplaceable.reason.value}
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, value: bytes) -> ModelRecord:
        """Read one record. Unknown fields, of a newer version, are ignored."""
        document: dict[str, Any] = json.loads(value)
        why = document.get("unplaceable")
        return cls(
            id=RevisionId(document["id"]),
            info=ModelInfo(**document["info"]),
            runtime=document.get("runtime"),
            unplaceable=Unplaceable(FailureReason(why["reason"]), why["message"]) if why else None,
            min_copies=document.get("min_copies", 0),
            max_copies=document.get("max_copies", 0),
            auto_delete=document.get("auto_delete", False),
            declared=document.get("declared", False),
            predictor=document.get("predictor", ""),
        )


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """One endpoint: whose it is, and the revisions it leads to."""

    name: EndpointName
    owner: str
    active: RevisionId
    target: RevisionId
    retained: tuple[RevisionId, ...] = ()
    """Revisions that served before and can serve again at once, newest first."""

    @property
    def revisions(self) -> frozenset[RevisionId]:
        """Everything that stays declared because of it."""
        return frozenset({self.active, self.target, *self.retained})

    @property
    def key(self) -> str:
        """Where it is stored."""
        return ENDPOINTS + self.name

    def encode(self) -> bytes:
        """As it is stored."""
        document = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, value: bytes) -> EndpointRecord:
        """Read one record. Unknown fields, of a newer version, are ignored."""
        document = json.loads(value)
        return cls(
            document["name"],
            document.get("owner", ""),
            document["active"],
            document["target"],
            tuple(document.get("retained", ())),
        )


def encode_suspicion(suspicion: Suspicion) -> bytes:
    """What a model is charged with, as it is stored."""
    document = asdict(suspicion)
    if suspicion.failure is not None:
        document["failure"]["reason"] = suspicion.failure.reason.value
    return json.dumps(document, separators=(",", ":")).encode()


def decode_suspicion(value: bytes) -> Suspicion:
    """Read one. Unknown fields, of a newer version, are ignored."""
    document: dict[str, Any] = json.loads(value)
    known = {field.name for field in fields(Suspicion)}
    failure = document.get("failure")
    if failure is not None:
        failure = Failure(**failure | {"reason": FailureReason(failure["reason"])})
    return Suspicion(**{name: item for name, item in document.items() if name in known} | {"failure": failure})


def encode_usage(last_used: Mapping[str, float]) -> Iterator[tuple[str, bytes]]:
    """Key and value of each record of a usage summary."""
    items = sorted(last_used.items())
    for number, start in enumerate(range(0, len(items), USAGE_CHUNK)):
        yield f"{USAGE}{number:06}", json.dumps(dict(items[start : start + USAGE_CHUNK])).encode()


def decode_usage(value: bytes) -> dict[str, float]:
    """Last uses in one record of a summary."""
    return {str(name): float(at) for name, at in json.loads(value).items()}


def latest(uses: Mapping[str, float], more: Mapping[str, float]) -> dict[str, float]:
    """Last uses from two sources: of each model the later one."""
    return {**uses, **{name: at for name, at in more.items() if at > uses.get(name, 0.0)}}

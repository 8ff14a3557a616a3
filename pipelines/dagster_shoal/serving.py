"""What serves now: the revision, and the package it came from if this pipeline's store has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shoal.client import NotFound, Refused, ShoalClient
from shoal.package.errors import PackageError
from shoal.package.names import PAYLOAD, is_short_digest
from shoal.package.package import Package, published
from shoal.package.stores.protocol import Store


@dataclass(frozen=True)
class Serving:
    """The active revision of an InferenceService."""

    revision: str = ""
    """Empty: nothing serves yet."""
    package: Package | None = None
    why_none: str = ""
    """Why there is no package to compare with."""


def serving_now(client: ShoalClient, store: Store, model: str, service: str) -> Serving:
    """The active revision, and its package.

    Raises:
        ShoalError: the cluster cannot be asked.
    """
    item = client.isvc(service)
    if item is None:
        return Serving(why_none=f"InferenceService {service} does not exist yet, so there is nothing to compare with")
    revision, predictor = _active(client, service, item)
    if not predictor:
        return Serving(revision, why_none=f"nobody remembers how revision {revision} was declared")
    package = _package(store, model, predictor)
    if package is None:
        return Serving(revision, why_none=f"revision {revision} is not one of {model}'s packages in this store")
    return Serving(revision, package)


def _active(client: ShoalClient, service: str, item: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    declared = item["spec"].get("predictor") or {}
    try:
        declared_revision = client.revision_of(item)
    except Refused:  # Somebody declared what cannot be used; what serves is in the history.
        declared_revision = ""
    try:
        report = client.rollout(service)
    except NotFound:
        return declared_revision, declared
    active = report.target if report.succeeded else report.active
    if active == declared_revision:
        return active, declared
    known = (past.predictor for past in report.history if past.target == active and past.predictor)
    return active, next(known, {})


def _package(store: Store, model: str, predictor: Mapping[str, Any]) -> Package | None:
    path = str(((predictor.get("model") or {}).get("storage") or {}).get("path") or "").strip("/")
    parts = path.split("/")
    if len(parts) < 3 or not is_short_digest(parts[-2]):
        return None
    try:
        package = published(store, model, parts[-2])
    except PackageError:
        return None
    return package if store.address(package.path(PAYLOAD)).path == path else None

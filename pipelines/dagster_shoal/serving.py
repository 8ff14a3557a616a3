"""The champion: the package that serves now, if it can be looked at.

Nothing that goes wrong on the way counts as "there is no champion": only an API that says that the InferenceService
does not exist does. A gate that could not look has failed, whatever kept it from looking.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal.client import Refused, ShoalClient, ShoalError
from shoal.package.errors import PackageError, PackageNotFound
from shoal.package.keys import TrustedKeys
from shoal.package.names import PAYLOAD, is_short_digest
from shoal.package.package import Package, published
from shoal.package.signing import sealed_by
from shoal.package.stores.protocol import PackageStore
from shoal.package.verify import signature_of


class ChampionUnknown(Exception):
    """Something serves, and it cannot be told what; `str()` says why and what to do."""


UNSEEN = (ShoalError, PackageError, ChampionUnknown)
"""What keeps a gate from looking."""


def serving_package(
    client: ShoalClient, store: PackageStore, trusted: TrustedKeys, model: str, service: str
) -> Package | None:
    """The package that serves, signed by a trusted key; None: there verifiably is no such InferenceService yet.

    Raises:
        ShoalError: the cluster cannot be asked.
        PackageError: the store cannot be asked, or the package was changed.
        ChampionUnknown: what serves is no package of this store, or nobody trusted vouches for it.
    """
    item = client.isvc(service)
    if item is None:
        return None
    revision, predictor = _active(client, service, item)
    if not predictor:
        raise ChampionUnknown(
            f"InferenceService {service} is there, and how its revision {revision or '(none)'} was declared is not "
            f"known; roll out a package to it, or delete it if nothing of it is to be kept"
        )
    package = _package(store, model, revision, predictor)
    _require_vouched(package, trusted)
    return package


def nothing_serves(service: str) -> str:
    """What a gate says that has nothing to compare with."""
    return f"InferenceService {service} does not exist yet, so there is nothing to compare with"


def _active(client: ShoalClient, service: str, item: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    declared = item["spec"].get("predictor") or {}
    try:
        declared_revision = client.revision_of(item)
    except Refused:  # Somebody declared what cannot be used; what serves is in the history.
        declared_revision = ""
    report = client.newest_rollout(service)
    if report is None:
        return declared_revision, declared if declared_revision else {}
    active = report.target if report.succeeded else report.active
    if active == declared_revision:
        return active, declared
    known = (past.predictor for past in report.history if past.target == active and past.predictor)
    return active, next(known, {})


def _package(store: PackageStore, model: str, revision: str, predictor: Mapping[str, Any]) -> Package:
    path = str(((predictor.get("model") or {}).get("storage") or {}).get("path") or "").strip("/")
    parts = path.split("/")
    if len(parts) < 3 or not is_short_digest(parts[-2]):
        raise ChampionUnknown(f"revision {revision} serves {path or 'no path'}, which is no package: {_way_on()}")
    digest = parts[-2]
    try:
        package = published(store, model, digest)
    except PackageNotFound:
        raise ChampionUnknown(
            f"revision {revision} serves package {digest} of {model}, which is not in this store (any more); "
            f"bring it back, check the store's settings, or {_way_on()}"
        ) from None
    if store.address(package.path(PAYLOAD)).path != path:
        raise ChampionUnknown(f"revision {revision} serves {path}, which is not in this store: {_way_on()}")
    return package


def _way_on() -> str:
    return "roll out what serves as a package, or leave this gate out of the model's `gates` for one version"


def _require_vouched(package: Package, trusted: TrustedKeys) -> None:
    """Refuse a package that anybody could have written: what it says of itself would decide about the challenger."""
    signer, why = signature_of(package, trusted)
    if signer is not None and package.manifest.seal is not None and sealed_by(package.manifest, trusted) is None:
        signer, why = None, "no trusted key sealed its manifest as it is"
    if signer is None:
        where = package.store.address(package.folder).uri
        raise ChampionUnknown(
            f"package {package.digest[:12]} serves, and {why}; check `trusted_key`, or if the package is as it should "
            f"be, sign it: shoal package attest {where} signature"
        )

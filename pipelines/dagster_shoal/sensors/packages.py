"""Rolls out packages that somebody else published: a data scientist's laptop, another pipeline, another team."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field

import dagster as dg
from dagster_shoal.factory import ModelAssets
from dagster_shoal.history import latest
from dagster_shoal.sensors.bounds import MetricBounds, in_turn, parsed
from dagster_shoal.sensors.targets import SensorTarget, is_partitioned, jobs_of, known, partitions
from dagster_shoal.stages import MODELS, VERSION_TAG, Stage
from dagster_shoal.steps import DIGEST
from dagster_shoal.store import ModelStore
from shoal.package.errors import PackageError, StoreUnavailable
from shoal.package.names import is_short_digest, model_name
from shoal.package.package import Package, find
from shoal.package.stores.protocol import PackageStore

_DIGITS = 12


class Seen(BaseModel):
    """What the store had when it was looked at last. About 40 bytes a model."""

    after: str = ""
    """The model looked at last."""
    round: int = 0
    """How often all models were looked at."""
    listing: dict[str, str] = Field(default_factory=dict)
    """By model: a hash of the names of its packages, and the newest of them."""


def new_packages_sensor(
    models: Sequence[ModelAssets],
    *,
    name: str = "new_packages",
    existing: Literal["skip", "roll_out"] = "skip",
    minimum_interval_seconds: int = 30,
    bounds: MetricBounds | None = None,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
) -> dg.SensorDefinition:
    """A run of `rollout` for each model whose newest package was published by others since the last look.

    Models that are no partition yet become one in the same tick. The mesh still demands its evidence.

    Args:
        models: what `build_model_assets` returned.
        name: of the sensor.
        existing: whether packages that are there when it is turned on are rolled out too.
        minimum_interval_seconds: between two ticks.
        bounds: of one tick.
        default_status: stopped, since it changes what serves: turn it on where others publish.
    """
    bounds = bounds or MetricBounds()

    @dg.sensor(
        name=name,
        jobs=jobs_of(models, "rollout"),
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        description="Rolls out packages that were published by others.",
    )
    def new_packages(context: dg.SensorEvaluationContext, model_store: ModelStore) -> dg.SensorResult | dg.SkipReason:
        seen = parsed(Seen, context.cursor)
        look = _Look(context, models, model_store.open(), seen, first=existing == "skip" and seen.round == 0)
        try:
            look.around(bounds)
        except PackageError as error:
            return dg.SkipReason(f"the store cannot be read: {error}")
        return look.result()

    return new_packages


class _Look:
    """One tick."""

    def __init__(
        self,
        context: dg.SensorEvaluationContext,
        models: Sequence[ModelAssets],
        store: PackageStore,
        seen: Seen,
        *,
        first: bool,
    ) -> None:
        self._context = context
        self._models = models
        self._store = store
        self._seen = seen
        self._first = first
        self._added: list[str] = []
        self._requests: list[dg.RunRequest] = []
        self._partitioned = is_partitioned(models)
        self._have = set(partitions(context.instance)) if self._partitioned else set()

    def around(self, bounds: MetricBounds) -> None:
        """Look at models in turn, as far as the bounds allow. Raises PackageError when the store is away."""
        names = [folder for folder in self._store.folders("") if _is_model(folder)]
        gone = set(self._seen.listing) - set(names)
        if gone and not names:
            # Forgotten now, all packages would count as new and be rolled out when the volume is mounted again.
            raise StoreUnavailable("it is empty, and held packages before; is its volume mounted?")
        for name in gone:
            del self._seen.listing[name]
        if not names:
            self._seen.round += 1
        last = max(names, default="")
        for name in in_turn(names, self._seen.after, bounds):
            target = known(self._models, name)
            if target is not None:
                self._look_at(target)
            self._seen.after = name
            if name == last:
                self._seen.round += 1
            if len(self._requests) >= bounds.requests:
                return

    def _look_at(self, target: SensorTarget) -> None:
        name = target.model.name
        folders = sorted(folder for folder in self._store.folders(name) if is_short_digest(folder))
        listing = hashlib.sha256(",".join(folders).encode()).hexdigest()[:_DIGITS]
        before = self._seen.listing.get(name, ":")
        if before.partition(":")[0] == listing or not folders:
            return
        try:
            newest = find(self._store, name)[-1:]
        except PackageError as error:  # Somebody else's broken package must not stop all others.
            self._context.log.warning(f"{name}: {error}")
            newest = []
        if not newest:
            return  # A manifest that is just being written: look again next time.
        digest = newest[0].digest
        self._seen.listing[name] = f"{listing}:{digest[:_DIGITS]}"
        self._add_partition(target)
        if not self._first and before.partition(":")[2] != digest[:_DIGITS] and not self._ours(target, newest[0]):
            self._requests.append(_request(target, digest))

    def _add_partition(self, target: SensorTarget) -> None:
        if target.partition is not None and target.partition not in self._have:
            self._have.add(target.partition)
            self._added.append(target.partition)

    def _ours(self, target: SensorTarget, package: Package) -> bool:
        """Whether a run of this instance published it, and so rolls it out itself."""
        recorded = latest(self._context.instance, target.assets.key(Stage.PUBLISHED_MODEL), target.partition)
        if recorded is not None and recorded.get(DIGEST) == package.digest:
            return True
        run = (package.about.lineage.dagster_run or "").split("/")[-1].split(" ")[-1]
        return bool(run) and self._context.instance.has_run(run)

    def result(self) -> dg.SensorResult:
        """Run requests, partitions, and where to go on."""
        return dg.SensorResult(
            run_requests=self._requests,
            cursor=self._seen.model_dump_json(),
            dynamic_partitions_requests=[MODELS.build_add_request(self._added)] if self._added else [],
        )


def _request(target: SensorTarget, digest: str) -> dg.RunRequest:
    config = {Stage.ROLLOUT: {"version": digest, "reason": "published by others"}}
    key = f"{target.model.name}:{digest[:_DIGITS]}"
    return target.asks_for("rollout", key, config, {VERSION_TAG: digest[:_DIGITS]})


def _is_model(folder: str) -> bool:
    try:
        return model_name(folder) == folder
    except PackageError:
        return False

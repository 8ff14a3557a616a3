"""Which package to roll out: by digest, by the run that published it, or the newest."""

from __future__ import annotations

import dagster as dg
from dagster_shoal.config import RolloutConfig
from dagster_shoal.history import latest
from dagster_shoal.model import ModelDefinition
from dagster_shoal.stages import Stage
from dagster_shoal.steps import DIGEST, Pipeline, refusal
from dagster_shoal.store import ModelStore
from shoal.package.errors import PackageNotFound
from shoal.package.names import DIGEST_CHARACTERS
from shoal.package.package import find, newest_digests, published
from shoal.package.publish import Published, published_as
from shoal.package.stores.protocol import PackageStore


def chosen(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    model: ModelDefinition,
    partition: str | None,
    config: RolloutConfig,
    store: ModelStore,
    run_id: str,
) -> Published:
    """The package a config means. In a run that publishes one, that is the newest.

    Raises:
        Failure: there is none; or version and run are both given.
        PackageError: it is not in the store.
    """
    opened = store.open()
    if config.version and config.run:
        raise refusal("config.run: is given beside version; keep one of them")
    if config.version:
        digest = config.version.removeprefix("sha256:")
        if len(digest) < DIGEST_CHARACTERS:
            raise refusal(f"config.version: {digest!r} is too short; give at least {DIGEST_CHARACTERS} characters")
    else:
        digest = _recorded(instance, pipeline, partition, config.run, run_id) or _newest(opened, model)
    try:
        package = published(opened, model.name, digest)
    except PackageNotFound:
        if not config.version:
            raise
        there = ", ".join(newest_digests(opened, model.name))
        raise refusal(
            f"config.version: no package {digest[:DIGEST_CHARACTERS]} of {model.name} is published; "
            + (f"the newest are {there}" if there else "materialize published_model first")
        ) from None
    return published_as(package, model.name)


def _recorded(instance: dg.DagsterInstance, pipeline: Pipeline, partition: str | None, wanted: str, run_id: str) -> str:
    key = pipeline.key(Stage.PUBLISHED_MODEL)
    found = latest(instance, key, partition, wanted or run_id, only=bool(wanted))
    if wanted and found is None:
        raise refusal(f"config.run: run {wanted} published no package of this model; give another, or a version")
    return str(found.get(DIGEST, "")) if found else ""


def _newest(store: PackageStore, model: ModelDefinition) -> str:
    packages = find(store, model.name)
    if not packages:
        raise refusal(f"no package of {model.name} is published; materialize published_model first")
    return packages[-1].digest

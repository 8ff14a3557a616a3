"""What all steps share: which model, where its drafts are, and how failures are told to Dagster."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg
from dagster_shoal.config import RolloutConfig
from dagster_shoal.drafts import DraftMissingError, Drafts, PackageDraft
from dagster_shoal.history import upstream
from dagster_shoal.model import ModelDefinition
from dagster_shoal.stages import AnyContext, Stage, StageLayout
from dagster_shoal.store import ModelStore
from shoal.client import ShoalError, TimedOut, Unreachable
from shoal.package.errors import PackageError, StoreUnavailable

DRAFT = "draft"
"""Metadata that says which draft an asset is about."""
DATA = "data"
DIGEST = "digest"
RETRIES = 3
_RETRY_SECONDS = 5
_MAY_PASS = (Unreachable, StoreUnavailable)
"""Trying again may help."""


@dataclass(frozen=True)
class Pipeline:
    """The seven assets of one model, or of all by partition."""

    layout: StageLayout
    specs: Mapping[Stage, dg.AssetSpec]
    rollout_form: type[RolloutConfig] = RolloutConfig
    """What the launchpad shows for the rollout, with its defaults."""

    def key(self, stage: Stage) -> dg.AssetKey:
        """Of a stage's asset."""
        return self.specs[stage].key

    def own_check(self, stage: Stage, name: str, says: str) -> dg.AssetCheckSpec:
        """A check that an asset makes itself while it is materialized."""
        with partitioned_checks():
            return dg.AssetCheckSpec(
                name, asset=self.key(stage), description=says, partitions_def=self.layout.partitions_def
            )

    def model(self, context: AnyContext) -> ModelDefinition:
        """The model a step is about. Raises `Failure` if there is none."""
        return self.layout.model(context)

    def drafts(self, context: AnyContext, store: ModelStore) -> Drafts:
        """Of the model a step is about."""
        return Drafts(store.work(context.instance), self.model(context).name)

    def draft(self, context: AnyContext, store: ModelStore, stage: Stage) -> PackageDraft:
        """The draft that an earlier stage worked on. Raises `Failure` if there is none."""
        made = upstream(context, self.key(stage))
        return self.drafts(context, store).draft(str(made.get(DRAFT, "")))


def refusal(reason: str, metadata: Mapping[str, object] | None = None) -> dg.Failure:
    """A failure that trying again does not mend: a gate, a wrong config, a rollout that went back."""
    return dg.Failure(reason, metadata=dict(metadata or {}), allow_retries=False)  # type: ignore[arg-type]


@contextmanager
def partitioned_checks() -> Iterator[None]:
    """Checks are defined in here. Their partitions are marked as preview in 1.13; without, all models share a badge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        yield


@contextmanager
def told() -> Iterator[None]:
    """Turn what our libraries raise into what Dagster shows: what may pass is tried again, the rest fails at once."""
    try:
        yield
    except TimedOut as error:
        raise refusal(str(error)) from error
    except _MAY_PASS as error:
        raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=_RETRY_SECONDS) from error
    except (ShoalError, PackageError, DraftMissingError) as error:
        raise refusal(str(error)) from error


def last_words(error: Exception, retries: int) -> str:
    """Why something could not be looked at; raises the error instead while trying again may help.

    Args:
        error: what kept it from looking.
        retries: of this step, so far.
    """
    if isinstance(error, _MAY_PASS) and retries < RETRIES:
        raise error
    return str(error)

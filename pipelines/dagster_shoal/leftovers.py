"""What a golden replay makes beside everything else: an InferenceService and a folder of the store, for a moment.

Both carry the id of the run. An object that is there under the name already is not ours: it is neither overwritten nor
deleted. What killed runs left is removed by the next replay, if this Dagster instance knows the run and it is over.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster_shoal.store import SCRATCH, ModelStore
from shoal.client import Refused, ShoalClient, ShoalError
from shoal.package.errors import PackageError

SCRATCH_LABEL = "shoal.dev/scratch"
RUN_LABEL = "shoal.dev/dagster-run"
_SERVICE_CHARACTERS = 36
"""Of the endpoint's name, so that names stay within the 63 characters of a DNS label."""
_MOST = 100
"""Leftovers that one run removes."""


@dataclass(frozen=True)
class Scratch:
    """Names of what one replay makes."""

    run: str
    name: str
    """Of the InferenceService."""
    folder: str
    """Of the store, below `SCRATCH`."""

    @staticmethod
    def of(run: str, service: str) -> Scratch:
        """New ones: two replays never share a name, not even within a run."""
        token = secrets.token_hex(3)
        start = service[:_SERVICE_CHARACTERS].rstrip("-")
        return Scratch(run, f"{start}-gate-{run[:8]}-{token}", f"{run}.{token}")

    @contextmanager
    def declared(self, client: ShoalClient, predictor: Mapping[str, Any]) -> Iterator[int]:
        """The InferenceService, gone afterwards; its generation.

        Raises:
            ShoalError: the cluster cannot be asked, or has one of this name.
        """
        annotations = {"serving.kserve.io/deploymentMode": "ModelMesh"}
        labels = {SCRATCH_LABEL: "true", RUN_LABEL: self.run}
        metadata = {"name": self.name, "annotations": annotations, "labels": labels}
        try:
            item = client.create({"metadata": metadata, "spec": {"predictor": dict(predictor)}})
        except Refused as error:
            if client.isvc(self.name) is None:
                raise
            raise Refused(f"{error}: it is not of this golden replay, and is left alone") from None
        try:
            yield int(item["metadata"]["generation"])
        finally:
            _delete(client, item)

    @contextmanager
    def removed(self, store: ModelStore) -> Iterator[None]:
        """The folder is gone afterwards."""
        try:
            yield
        finally:
            store.open().delete_folder(f"{SCRATCH}/{self.folder}")


def sweep(client: ShoalClient, store: ModelStore, instance: dg.DagsterInstance) -> list[str]:
    """Remove what replays of runs that are over left; what could not be removed, in words."""
    problems: list[str] = []
    try:
        items = [item for item in client.isvcs(f"{SCRATCH_LABEL}=true") if _is_over(instance, _run_of(item))]
        for item in items[:_MOST]:
            _delete(client, item)
        opened = store.open()
        folders = [folder for folder in opened.folders(SCRATCH) if _is_over(instance, folder.partition(".")[0])]
        for folder in folders[:_MOST]:
            opened.delete_folder(f"{SCRATCH}/{folder}")
    except (ShoalError, PackageError) as error:  # The next run tries again; this one has its own work.
        problems.append(f"what an earlier golden replay left could not be removed: {error}")
    return problems


def _delete(client: ShoalClient, item: Mapping[str, Any]) -> None:
    metadata = item["metadata"]
    try:
        client.delete(metadata["name"], metadata["uid"])
    except Refused as error:
        # Somebody deleted ours and made another of this name, which is theirs.
        current = client.isvc(metadata["name"])
        if current is not None and current["metadata"]["uid"] == metadata["uid"]:
            raise error from None


def _run_of(item: Mapping[str, Any]) -> str:
    return str((item["metadata"].get("labels") or {}).get(RUN_LABEL) or "")


def _is_over(instance: dg.DagsterInstance, run: str) -> bool:
    """Whether this is a run of this instance that ended: others' runs may go on where it cannot be seen."""
    found = instance.get_run_by_id(run) if run else None
    return found is not None and found.is_finished

"""The golden replay: the package is served by the real model server, and its answers are compared with those expected.

It is published below the store's `scratch` prefix and declared as an InferenceService of its own, both named after the
run (`leftovers`). They are removed afterwards; should the run be killed, a later one does that.
"""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import BaseModel

from dagster_shoal.leftovers import Scratch
from dagster_shoal.model import ModelDefinition
from dagster_shoal.store import ModelStore
from shoal.client import Refused, ShoalClient, ShoalError, TimedOut
from shoal.oip.compare import Tolerance
from shoal.package.compare import TOLERANCES, compare
from shoal.package.package import open_directory
from shoal.package.predictor import predictor_for
from shoal.package.publish import publish
from shoal.package.samples import Sample

LOAD_SECONDS = 300.0
REQUESTS = 64
"""At least; enough for a p99 that is not one outlier's. Every sample is sent once at least."""


class Replay(BaseModel):
    """What came of it."""

    digest: str
    run: str
    problems: list[str]
    compared: int
    """Values."""
    requests: int
    load_seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None


def replay(client: ShoalClient, directory: Path, store: ModelStore, model: ModelDefinition, run: str) -> Replay:
    """Serve the package in a directory, ask it all its samples, remove it.

    Raises:
        ShoalError: the cluster cannot be asked, or has an InferenceService of that name, which is not ours.
        PackageError: the scratch store cannot be written.
    """
    package = open_directory(directory)
    samples = package.samples()
    result = Replay(digest=package.digest, run=run, problems=[], compared=0, requests=0, load_seconds=0.0)
    if samples is None:
        return result.model_copy(update={"problems": ["the package has no samples"]})
    scratch = Scratch.of(run, model.service)
    started = time.monotonic()
    with scratch.removed(store):
        published = publish(directory, store.open(scratch=scratch.folder), model.name)
        predictor = predictor_for(published, runtime=model.replay_runtime or model.runtime or None)
        with scratch.declared(client, predictor) as generation:
            try:
                client.wait_ready(scratch.name, generation, LOAD_SECONDS)
            except (Refused, TimedOut) as error:
                return result.model_copy(update={"problems": [f"the model server does not serve it: {error}"]})
            loaded = time.monotonic() - started
            result = result.model_copy(update={"load_seconds": loaded})
            return _ask(client, scratch.name, samples.samples, model, result)


def _ask(client: ShoalClient, name: str, samples: list[Sample], model: ModelDefinition, result: Replay) -> Replay:
    tolerances = {**TOLERANCES, "FP64": Tolerance(model.tolerance, TOLERANCES["FP64"].absolute)}
    problems, compared, milliseconds = [], 0, []
    for count in range(max(REQUESTS, len(samples))):
        sample = samples[count % len(samples)]
        begun = time.perf_counter()
        try:
            answer = client.infer(name, sample.body())
        except Refused as error:
            problems.append(f"sample {count}: refused: {error}")
        except ShoalError as error:
            problems.append(f"sample {count}: no answer: {error}")
        else:
            milliseconds.append(1000 * (time.perf_counter() - begun))
            expected = sample.expected()
            if count < len(samples) and expected is not None:
                comparison = compare(expected, answer, tolerances)
                compared += comparison.compared
                problems += [] if comparison.agrees else [f"sample {count}: {comparison}"]
        if len(problems) >= 20:
            break
    if not compared and not problems:
        problems.append("no sample says which answer is expected, so nothing was compared")
    return result.model_copy(
        update={
            "problems": problems,
            "compared": compared,
            "requests": count + 1,
            "p50_ms": quantile(milliseconds, 0.5),
            "p99_ms": quantile(milliseconds, 0.99),
        }
    )


def quantile(values: list[float], at: float) -> float | None:
    """The value at a quantile, 0 to 1; None of nothing."""
    return sorted(values)[min(len(values) - 1, int(at * len(values)))] if values else None

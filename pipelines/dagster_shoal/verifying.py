"""`serving_endpoint`: the endpoint asked as its callers do, with the samples of the package it should serve."""

import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_shoal.history import upstream
from dagster_shoal.model import ModelDefinition
from dagster_shoal.replay import quantile
from dagster_shoal.resource import ShoalResource
from dagster_shoal.stages import Stage
from dagster_shoal.steps import DIGEST, Pipeline, told
from dagster_shoal.store import ModelStore
from shoal.client import ShoalClient, ShoalError
from shoal.package.compare import TOLERANCES, compare
from shoal.package.package import Package, published

ANSWERS = "answers"
"""Name of the endpoint's own check."""
_LOAD_SECONDS = 300.0
_REQUESTS = 32


def serving_endpoint(pipeline: Pipeline, freshness: dg.FreshnessPolicy | None) -> dg.AssetsDefinition:
    """The asset. `freshness`: how old its newest materialization may be."""
    spec = pipeline.specs[Stage.SERVING_ENDPOINT]
    spec = spec.replace_attributes(freshness_policy=freshness) if freshness else spec
    says = "The endpoint gives the answers that the package's samples expect."

    @dg.multi_asset(
        name=pipeline.layout.op(Stage.SERVING_ENDPOINT),
        specs=[spec],
        check_specs=[pipeline.own_check(Stage.SERVING_ENDPOINT, ANSWERS, says)],
    )
    def verify(
        context: dg.AssetExecutionContext, shoal: ShoalResource, model_store: ModelStore
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        model = pipeline.model(context)
        digest = str(upstream(context, pipeline.key(Stage.ROLLOUT)).get(DIGEST, ""))
        with told(), shoal.client() as client:
            package = published(model_store.open(), model.name, digest)
            client.wait_ready(model.service, timeout=_LOAD_SECONDS)
            problems, milliseconds = ask(client, model, package)
        figures = {"p50_ms": quantile(milliseconds, 0.5), "p99_ms": quantile(milliseconds, 0.99)}
        endpoint = shoal.endpoint_url(model.service)
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(package.digest),
            metadata={
                DIGEST: package.digest,
                "version": package.digest[:12],
                "endpoint": dg.MetadataValue.url(endpoint) if "://" in endpoint else endpoint,
                "requests": len(milliseconds),
                **{name: round(value, 3) for name, value in figures.items() if value is not None},
            },
        )
        words = "; ".join(problems[:3]) or "all answers are as expected"
        if not milliseconds and not problems:
            words = "nothing was asked: the package has no samples; build it with --samples"
        passed = bool(milliseconds) and not problems
        yield dg.AssetCheckResult(check_name=ANSWERS, passed=passed, description=words)

    return verify


def ask(client: ShoalClient, model: ModelDefinition, package: Package) -> tuple[list[str], list[float]]:
    """What is wrong with the answers, and how long each took, in milliseconds."""
    samples = package.samples()
    problems: list[str] = []
    milliseconds: list[float] = []
    if samples is None:
        return problems, milliseconds
    for count in range(max(_REQUESTS, len(samples.samples))):
        sample = samples.samples[count % len(samples.samples)]
        began = time.perf_counter()
        try:
            answer = client.infer(model.service, sample.body())
        except ShoalError as error:
            problems.append(f"sample {count}: {error}")
            continue
        milliseconds.append(1000 * (time.perf_counter() - began))
        expected = sample.expected()
        if expected is not None and not (found := compare(expected, answer, TOLERANCES)).agrees:
            problems.append(f"sample {count}: {found}")
    return problems, milliseconds

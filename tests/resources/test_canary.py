"""`spec.canary`: KServe's spelling of a canary."""

import pytest

from shoal.resources import inferenceservice
from shoal.resources.inferenceservice import parse, parse_canary, validate, warn
from shoal.resources.revision import revision_id
from support.resources import isvc, model

STORED = model(storage={"key": "k", "path": "m.joblib", "schemaPath": "s.json"})


def declared(*entries, predictor=None):
    manifest = isvc(predictor={"name": "champion", **(predictor or STORED), "minReplicas": 2})
    manifest["spec"]["canary"] = list(entries)
    return manifest


def entry(percent=20, **predictor):
    return {"predictor": {"name": "challenger", **predictor}, "trafficPercent": percent}


def said(*entries, **more):
    return [str(problem) for problem in validate(declared(*entries, **more))]


def test_an_entry_lies_over_the_predictor():
    manifest = declared(entry(model={"storage": {"path": "new.joblib"}}))
    assert validate(manifest) == []
    assert warn(manifest) == []
    service, stable = parse(manifest)
    canary = parse_canary(service)
    assert (canary.percent, stable.path) == (20, "m.joblib")
    assert (canary.model.path, canary.model.storage_key, canary.model.schema_path) == ("new.joblib", "k", "s.json")
    assert canary.predictor == {
        "name": "challenger",
        "minReplicas": 2,
        "model": {
            "modelFormat": {"name": "sklearn"},
            "storage": {"key": "k", "path": "new.joblib", "schemaPath": "s.json"},
        },
    }


def test_promoting_by_moving_the_entry_leads_to_the_same_revision():
    service, _ = parse(declared(entry(model={"storageUri": "s3://b/new"})))
    canary = parse_canary(service)
    _, moved = parse(isvc(predictor=canary.predictor))
    assert revision_id("m", moved) == revision_id("m", canary.model)


def test_another_place_or_form_replaces_that_below():
    service, _ = parse(declared(entry(model={"storageUri": "s3://b/new"})))
    assert parse_canary(service).model.parameters == {"type": "s3", "bucket": "b"}
    service, _ = parse(declared(entry(xgboost={"storageUri": "s3://b/x"})))
    assert parse_canary(service).model.format == "xgboost"
    service, _ = parse(
        declared(entry(xgboost={"storageUri": "s3://b/y"}), predictor={"xgboost": {"storageUri": "s3://b/x"}})
    )
    assert parse_canary(service).model.path == "y"


def test_without_an_entry_there_is_no_canary():
    service, _ = parse(isvc())
    assert parse_canary(service) is None
    service, _ = parse(declared())
    assert parse_canary(service) is None


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([entry(), entry()], "spec.canary[1]: only one canary at a time is possible; keep one entry"),
        ([entry(name="champion")], "spec.canary[0].predictor.name: 'champion' is the name of spec.predictor"),
        ([entry(name="Bad")], "spec.canary[0].predictor.name: string should match pattern"),
        ([{"predictor": {}, "trafficPercent": 5}], "spec.canary[0].predictor.name: is required; add it"),
        ([{"predictor": {"name": "c"}}], "spec.canary[0].trafficPercent: is required; add it"),
        ([entry(101)], "spec.canary[0].trafficPercent: input should be less than or equal to 100"),
        ([entry(1.5)], "spec.canary[0].trafficPercent: must be a whole number, not 1.5"),
        (
            [entry(model={"storage": {"path": "../x"}})],
            "spec.canary[0].predictor.model.storage.path: '../x' leaves its ",
        ),
        (
            [entry(xgboost={}, sklearn={})],
            "spec.canary[0].predictor.sklearn: cannot stand beside spec.canary[0].predictor",
        ),
        ([entry(modle={})], "spec.canary[0].predictor.modle: unknown field; did you mean 'model'?"),
    ],
)
def test_a_wrong_entry_is_named(entries, problem):
    assert any(line.startswith(problem) for line in said(*entries)), said(*entries)


def test_a_format_that_is_named_nowhere_is_missed():
    found = said(entry(model={"storageUri": "s3://b/x"}), predictor={"sklearn": {"storageUri": "s3://b/p"}})
    assert found == ["spec.canary[0].predictor.model.modelFormat: is required; add it"]


def test_rules_of_a_rollout_hold_beside_an_entry():
    manifest = declared(entry())
    manifest["spec"]["rollout"] = {"checks": [{"name": "e", "metric": "errorRate", "max": 3}]}
    assert [problem.path for problem in inferenceservice.validate(manifest)] == ["spec.rollout.checks[0].max"]

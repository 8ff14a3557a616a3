import json

import pytest

from shoal.resources.kinds import KINDS, kind_named, openapi_schemas, printer_columns
from support.resources import example

_FORBIDDEN = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "title", "const", "default"}


def _nodes(node):
    yield node
    for child in node.get("properties", {}).values():
        yield from _nodes(child)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from _nodes(node[key])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_schemas_are_structural(kind):
    for node in _nodes(kind.schema):
        assert not _FORBIDDEN & node.keys()
        assert "type" in node or "x-kubernetes-int-or-string" in node or "x-kubernetes-preserve-unknown-fields" in node
        assert node.get("additionalProperties") is not False
    assert kind.schema["x-kubernetes-group-version-kind"] == [
        {"group": kind.group, "version": kind.version, "kind": kind.kind}
    ]
    json.dumps(kind.schema)


def test_fields_are_explained():
    properties = openapi_schemas()["InferenceService"]["properties"]["spec"]["properties"]["predictor"]["properties"]
    assert "evicted" in properties["minReplicas"]["description"]
    assert properties["model"]["required"] == ["modelFormat"]
    assert properties["minReplicas"]["type"] == "integer"


def test_columns_are_upstreams_and_of_runtimes_how_they_stand():
    assert [column.name for column in printer_columns("InferenceService") if not column.priority] == [
        "URL",
        "Ready",
        "Age",
    ]
    for kind in ("ServingRuntime", "ClusterServingRuntime"):
        assert [column.name for column in printer_columns(kind)] == [
            "Disabled",
            "ModelType",
            "Containers",
            "Ready",
            "Reason",
            "Age",
        ]


def test_names_and_scopes():
    isvc, runtime, cluster = KINDS
    assert (isvc.plural, isvc.short_names, isvc.namespaced) == ("inferenceservices", ("isvc",), True)
    assert (runtime.plural, runtime.namespaced) == ("servingruntimes", True)
    assert (cluster.plural, cluster.namespaced) == ("clusterservingruntimes", False)
    with pytest.raises(KeyError):
        kind_named("Predictor")


@pytest.mark.parametrize("name", ["isvc-sklearn-mnist", "runtime-custom", "runtime-triton"])
def test_each_kind_validates_its_own_examples(name):
    document = example(name)
    assert kind_named(document["kind"]).validate(document) == []

import pytest

from shoal.resources.builtin import builtin_runtime
from shoal.resources.choose import Chosen, NoRuntime, Requirements, choose, requirements_from_type
from shoal.resources.runtimerules import parse
from support.resources import example, runtime


def _format(name, version=None, **more):
    return {"name": name, "autoSelect": True, **({"version": version} if version else {}), **more}


def _runtimes(*manifests):
    return [parse(manifest) for manifest in manifests]


MLSERVER = parse(builtin_runtime("mlserver-1.x"))
TRITON = parse(example("runtime-triton"))


@pytest.mark.parametrize(
    ("wanted", "runtime_name"),
    [
        ("mt:sklearn", "mlserver-1.x"),
        ("mt:sklearn:0|pv:grpc-v2", "mlserver-1.x"),
        ("mt:sklearn:1.5.2|pv:v2", "mlserver-1.x"),
        ("mt:tensorflow:1.15", "triton-2.x"),
        ("rt:triton-2.x", "triton-2.x"),
        ("keras:2", "triton-2.x"),
    ],
)
def test_type_strings_lead_to_runtimes(wanted, runtime_name):
    found = choose(requirements_from_type(wanted), [MLSERVER, TRITON])
    assert isinstance(found, Chosen)
    assert found.runtime == runtime_name


def test_the_closest_version_wins_over_priority_and_priority_over_names():
    runtimes = _runtimes(
        runtime("a", [_format("tf", priority=9)]),
        runtime("b", [_format("tf", "1", priority=5)]),
        runtime("c", [_format("tf", "1.15")]),
        runtime("d", [_format("tf", "1", priority=6)]),
    )
    assert choose(Requirements("tf", "1.15.2"), runtimes).runtime == "c"
    assert choose(Requirements("tf", "1.14"), runtimes).runtime == "d"
    assert choose(Requirements("tf"), runtimes).runtime == "a"


def test_a_version_is_compared_by_its_parts():
    found = choose(Requirements("tf", "15"), _runtimes(runtime("a", [_format("tf", "1")])))
    assert isinstance(found, NoRuntime)


def test_a_servingruntime_hides_the_cluster_wide_one_of_its_name_and_is_preferred():
    cluster = runtime("a", [_format("x", "1")]) | {"kind": "ClusterServingRuntime"}
    own = runtime("a", [_format("y", "1")])
    assert isinstance(choose(Requirements("x"), _runtimes(cluster, own)), NoRuntime)
    other = runtime("z", [_format("x", "1")])
    assert choose(Requirements("x"), _runtimes(cluster, other)) == Chosen(
        "z", False, "format 'x' fits; preferred over a"
    )


def test_no_runtime_says_why_each_does_not_fit():
    disabled = runtime("off", [_format("prophet")], disabled=True)
    manual = runtime("manual", [{"name": "prophet"}])
    versions = runtime("old", [_format("prophet", "1"), _format("prophet", "2")])
    foreign = runtime("single", [_format("prophet")], multiModel=False)
    found = choose(Requirements("prophet", "3.1"), [*_runtimes(disabled, versions, manual, foreign), MLSERVER])
    assert isinstance(found, NoRuntime)
    assert found.reason == "NoSupportingRuntime"
    assert found.message == (
        "No ServingRuntime supports specified model type and/or protocol: "
        "the model has format 'prophet' version '3.1', "
        "but manual has not autoSelect: true for prophet and must be named by spec.predictor.model.runtime; "
        "mlserver-1.x serves the formats huggingface, lightgbm, mlflow, onnx, sklearn, xgboost; "
        "off is disabled; old serves prophet in version '1', '2'; single has not spec.multiModel: true"
    )


def test_protocols_count():
    found = choose(Requirements("sklearn", protocol="v1"), [MLSERVER])
    assert isinstance(found, NoRuntime)
    assert found.rejected == (("mlserver-1.x", "speaks the protocols grpc-v2, v2"),)
    silent = _runtimes(runtime("r", [_format("sklearn")]))
    assert isinstance(choose(Requirements("sklearn", protocol="grpc-v2"), silent), NoRuntime)
    assert isinstance(choose(Requirements("sklearn"), silent), Chosen)


def test_an_explicit_runtime_need_not_select_by_itself():
    assert choose(Requirements("sklearn", "0", runtime="triton-2.x"), [TRITON]) == Chosen(
        "triton-2.x", True, "specified by name"
    )


def test_an_explicit_runtime_need_not_list_the_format_which_is_warned_of():
    found = choose(Requirements("prophet", runtime="triton-2.x"), [TRITON])
    assert isinstance(found, Chosen)
    assert found.runtime == "triton-2.x"
    assert found.warning.startswith(
        "the model has format 'prophet', but the specified runtime triton-2.x serves the formats keras"
    )
    assert found.warning.endswith(": it may fail to load")
    version = choose(Requirements("keras", "9", runtime="triton-2.x"), [TRITON])
    assert isinstance(version, Chosen)
    assert "the specified runtime triton-2.x serves keras in version '2'" in version.warning
    protocol = choose(Requirements("keras", protocol="v1", runtime="triton-2.x"), [TRITON])
    assert isinstance(protocol, Chosen)
    assert "speaks the protocols grpc-v2, v2" in protocol.warning


def test_an_explicit_runtime_that_is_disabled_serves_nothing():
    [off] = _runtimes(runtime("off", [_format("sklearn")], disabled=True))
    found = choose(Requirements("sklearn", runtime="off"), [off])
    assert isinstance(found, NoRuntime)
    assert found.message.endswith("format 'sklearn', but the specified runtime off is disabled")


def test_an_unknown_explicit_runtime_is_not_recognized_and_the_known_are_named():
    found = choose(Requirements("sklearn", runtime="nope"), [MLSERVER, TRITON])
    assert found == NoRuntime(
        "RuntimeNotRecognized",
        "Specified runtime name not recognized: 'nope' does not exist; runtimes here: mlserver-1.x, triton-2.x",
    )


def test_without_any_runtime_the_answer_says_so():
    found = choose(Requirements("sklearn"), [])
    assert isinstance(found, NoRuntime)
    assert found.message.endswith("the model has format 'sklearn', and there are no runtimes")

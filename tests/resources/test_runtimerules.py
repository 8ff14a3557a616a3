import copy

import pytest

from shoal.resources.builtin import builtin_names, builtin_runtime
from shoal.resources.problems import InvalidManifest
from shoal.resources.runtimerules import parse, validate, warn
from support.resources import example, runtime


def _said(manifest):
    return [str(problem) for problem in validate(manifest)]


def _with(change):
    manifest = copy.deepcopy(example("runtime-triton"))
    change(manifest["spec"])
    return manifest


@pytest.mark.parametrize("name", ["runtime-custom", "runtime-triton"])
def test_published_examples_are_accepted_without_a_word(name):
    assert validate(example(name)) == []
    assert warn(example(name)) == []


@pytest.mark.parametrize("name", builtin_names())
def test_built_in_runtimes_are_valid_and_take_another_memory_request(name):
    manifest = builtin_runtime(name, memory="300Mi")
    assert validate(manifest) == []
    assert parse(manifest).spec.containers[0].resources.requests["memory"] == "300Mi"
    assert parse(builtin_runtime(name)).spec.containers[0].resources.limits["memory"] == "1Gi"


def test_a_built_in_runtime_needs_a_quantity_and_a_known_name():
    with pytest.raises(ValueError, match="'much' is not a quantity"):
        builtin_runtime("mlserver-1.x", memory="much")
    with pytest.raises(KeyError, match=r"there are mlserver-1\.x"):
        builtin_runtime("nope")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda s: s["containers"].append({"name": "mm"}),
            "spec.containers[1].name: 'mm' is reserved; choose another name",
        ),
        (
            lambda s: s["containers"].append({"name": "mm-x"}),
            "spec.containers[1].name: 'mm-x' is reserved; choose another name",
        ),
        (
            lambda s: s["containers"].append({"name": "triton"}),
            "spec.containers[1].name: 'triton' is used twice; names must be unique in a pod",
        ),
        (
            lambda s: s["containers"][0].update(readinessProbe={}),
            "spec.containers[0].readinessProbe: is set by Shoal; remove it",
        ),
        (
            lambda s: s["containers"][0].update(lifecycle={"preStop": {}}),
            "spec.containers[0].lifecycle: is set by Shoal; remove it",
        ),
        (
            lambda s: s["containers"][0].update(ports=[{"containerPort": 7000, "name": "grpc"}]),
            "spec.containers[0].ports[0].name: 'grpc' is reserved; choose another name",
        ),
        (
            lambda s: s["containers"][0].update(ports=[{"containerPort": 7000, "name": "mm-a"}]),
            "spec.containers[0].ports[0].name: 'mm-a' is reserved; choose another name",
        ),
        (
            lambda s: s["containers"][0].update(ports=[{"containerPort": 8080}]),
            "spec.containers[0].ports[0].containerPort: 8080 is reserved; choose another port",
        ),
        (
            lambda s: s["containers"][0].update(ports=[{"containerPort": 11888}]),
            "spec.containers[0].ports[0].containerPort: 11888 is reserved; choose another port",
        ),
        (
            lambda s: s["containers"][0].update(volumeMounts=[{"name": "tc-config", "mountPath": "/x"}]),
            "spec.containers[0].volumeMounts[0].name: 'tc-config' is reserved; remove it",
        ),
        (
            lambda s: s.update(volumes=[{"name": "models-dir"}]),
            "spec.volumes[0].name: 'models-dir' is reserved; choose another name",
        ),
        (
            lambda s: s["builtInAdapter"].update(serverType="mlserver"),
            "spec.builtInAdapter.serverType: no container is named 'mlserver'; "
            "name the model server's container 'mlserver' in spec.containers",
        ),
        (
            lambda s: s["builtInAdapter"].update(serverType="x"),
            "spec.builtInAdapter.serverType: 'x' is not known; use triton, mlserver, ovms, torchserve",
        ),
        (
            lambda s: s.pop("grpcEndpoint"),
            "spec.grpcEndpoint: is required for multiModel runtimes; add grpcEndpoint: port:8085",
        ),
        (
            lambda s: s.update(grpcEndpoint=8085),
            "spec.grpcEndpoint: must be a string, not 8085; write it like port:8085",
        ),
        (
            lambda s: s.update(grpcDataEndpoint="8001"),
            "spec.grpcDataEndpoint: '8001' is neither port:NUMBER nor unix:/absolute/path; write it like port:8001",
        ),
        (
            lambda s: s.update(grpcDataEndpoint="unix:/tmp/a.sock"),
            "spec.grpcDataEndpoint: is a unix socket, which is only reachable inside the pod; use port:NUMBER",
        ),
        (lambda s: s.update(containers=[]), "spec.containers: is empty; add the model server's container"),
        (
            lambda s: s["containers"][0].update(resources={"requests": {"memory": "1GB"}}),
            "spec.containers[0].resources.requests.memory: '1GB' is not a quantity such as 500m, 2 or 1Gi",
        ),
        (
            lambda s: s["containers"][0].update(env=[{"name": "A", "value": 8001}]),
            'spec.containers[0].env[0].value: must be a string, not 8001; write it in quotes: "8001"',
        ),
        (
            lambda s: s["containers"][0].update(env=[{"name": "A", "valu": "x"}]),
            "spec.containers[0].env[0].valu: unknown field; did you mean 'value'?",
        ),
    ],
)
def test_each_rule_names_the_field_and_the_fix(change, said):
    assert said in _said(_with(change))
    with pytest.raises(InvalidManifest):
        parse(_with(change))


@pytest.mark.parametrize(
    ("annotations", "field"),
    [
        ({"autoscalerClass": "keda"}, "autoscalerClass"),
        ({"metrics": "conccurrency"}, "metrics"),
        ({"targetUtilizationPercentage": "-1"}, "targetUtilizationPercentage"),
        ({"targetUtilizationPercentage": "101"}, "targetUtilizationPercentage"),
        ({"min-scale": "0"}, "min-scale"),
        ({"min-scale": "3", "max-scale": "2"}, "max-scale"),
    ],
)
def test_wrong_autoscaling_annotations_are_named(annotations, field):
    manifest = runtime()
    manifest["metadata"]["annotations"] = {f"serving.kserve.io/{key}": value for key, value in annotations.items()}
    assert [problem.path for problem in validate(manifest)] == [f'metadata.annotations["serving.kserve.io/{field}"]']


def test_replicas_and_hpa_exclude_each_other():
    manifest = runtime(replicas=2)
    manifest["metadata"]["annotations"] = {"serving.kserve.io/autoscalerClass": "hpa"}
    assert [problem.path for problem in validate(manifest)] == ["spec.replicas"]


def test_a_runtime_that_is_not_multi_model_is_left_to_kserve():
    manifest = runtime(multiModel=False, containers=[{"name": "mm", "readinessProbe": {}}])
    del manifest["spec"]["grpcEndpoint"]
    assert validate(manifest) == []
    assert warn(manifest) == ["spec.multiModel: is not true, so Shoal leaves this runtime to KServe"]


def test_a_name_must_fit_into_a_label_of_its_pods():
    assert _said(runtime("a" * 46)) == ["metadata.name: is 46 characters long; use at most 45"]
    assert _said(runtime("a" * 45)) == []


@pytest.mark.parametrize("document", [{}, {"spec": {"containers": [3]}}, {"spec": {"containers": None}}, {"spec": 1}])
def test_nonsense_is_refused_not_crashed_on(document):
    assert validate(document) != []

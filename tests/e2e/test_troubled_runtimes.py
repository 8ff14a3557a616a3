"""Runtimes whose pods cannot start: their status, that of the models that wait for them, and events say why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from e2e_models import PIXELS, seed_form
from shoal.resources.builtin import builtin_runtime
from support.e2e import NAMESPACE, Cluster, service
from waiting import eventually

pytestmark = pytest.mark.server
WAITS = "Waiting for supporting runtime Pod to become available: "
OVMS = (
    "runtime ovms-1.x: serverType 'ovms' has no adapter in this version of Shoal; "
    "supported: mlserver, and servers of your own without builtInAdapter"
)
NOT_BUILT = (
    "container server of runtime unbuilt cannot start: ErrImageNeverPull: image 'nobody/built:1' is not on this "
    "machine and the embedded cluster cannot pull images: build it with `shoal runtime build --tag built`, or set the "
    "container's command to a program of this machine"
)
CRASHES = "container server of runtime crashing ends again and again: exit code 1: ValueError: no such setting"
TYPO = (
    "container mlserver of runtime typo cannot start: RunContainerError: program 'mlsrver' is not on this machine "
    "(PATH is searched, Python's own environment first)"
)
CAUSES = {
    "ovms-1.x": ("NoAdapter", OVMS),
    "unbuilt": ("ErrImageNeverPull", NOT_BUILT),
    "crashing": ("CrashLoopBackOff", CRASHES),
    "typo": ("RunContainerError", TYPO),
}


def of_our_own(name: str, **container: Any) -> dict[str, Any]:
    """A runtime of one pod that speaks Shoal's protocol itself, as far as its manifest tells."""
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "supportedModelFormats": [{"name": "sklearn"}],
            "multiModel": True,
            "replicas": 1,
            "grpcEndpoint": "port:8085",
            "grpcDataEndpoint": "port:8001",
            "containers": [{"name": "server", "image": "nobody/built:1", **container}],
        },
    }


def mlserver(*command: str) -> dict[str, Any]:
    """The built-in runtime under another name and with a command."""
    document = builtin_runtime("mlserver-1.x")
    document["metadata"] |= {"name": "typo", "namespace": NAMESPACE}
    document["spec"]["replicas"] = 1
    document["spec"]["supportedModelFormats"] = [{"name": "sklearn"}]
    if command:
        document["spec"]["containers"][0]["command"] = list(command)
    return document


def ovms() -> dict[str, Any]:
    document = of_our_own("ovms-1.x")
    document["spec"]["builtInAdapter"] = {"serverType": "ovms", "runtimeManagementPort": 8888}
    document["spec"]["containers"][0]["name"] = "ovms"
    return document


@pytest.fixture(scope="module")
def troubled(cluster: Cluster, digits: str) -> Iterator[Cluster]:
    """Four runtimes in trouble, and a model of the same name for each."""
    crash = ["python", "-c", "raise ValueError('no such setting')"]
    runtimes = [ovms(), of_our_own("unbuilt"), of_our_own("crashing", command=crash), mlserver("mlsrver", "start")]
    services = [yaml.safe_load(service(f"on-{name}", "mnist-svm.joblib", claim=digits)) for name in CAUSES]
    for name, document in zip(CAUSES, services, strict=True):
        document["metadata"]["name"] = model_on(name)
        document["spec"]["predictor"]["model"]["runtime"] = name
    cluster.must("apply", "-f", "-", stdin=yaml.safe_dump_all([*runtimes, *services]))
    yield cluster
    cluster.must("delete", "isvc", *map(model_on, CAUSES))
    cluster.must("delete", "servingruntime", *CAUSES)
    eventually(lambda: len(cluster.containers()) == 4, "only the pods of mlserver-1.x are left")


def model_on(runtime: str) -> str:
    return "on-" + runtime.replace(".", "-")


def events(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    """Warnings on an object."""
    found = json.loads(cluster.kubectl("get", "events", "-o", "json"))["items"]
    return [each for each in found if each["involvedObject"]["name"] == name and each["type"] == "Warning"]


@pytest.mark.parametrize("runtime", CAUSES)
def test_the_cause_is_in_the_status_of_the_runtime_and_of_its_models_and_told_once(troubled: Cluster, runtime: str):
    reason, cause = CAUSES[runtime]
    isvc = model_on(runtime)

    def failure() -> dict[str, Any]:
        return troubled.status(isvc).get("modelStatus", {}).get("lastFailureInfo") or {}

    eventually(lambda: failure().get("message") == WAITS + cause, f"{isvc} tells of: {cause}")
    assert failure()["reason"] == "RuntimeUnhealthy"
    (ready,) = troubled.object("servingruntime", runtime)["status"]["conditions"]
    assert (ready["type"], ready["status"], ready["reason"], ready["message"]) == ("Ready", "False", reason, cause)
    for name, said, message in ((isvc, "RuntimeUnhealthy", WAITS + cause), (runtime, reason, cause)):
        (event,) = eventually(lambda name=name: events(troubled, name), f"an event on {name}")
        assert (event["reason"], event["message"]) == (said, message)
        # `describe` breaks the lines of a status, not those of events.
        assert message in troubled.must("describe", event["involvedObject"]["kind"].lower(), name)


def test_a_crash_loop_is_one_event_however_often_it_turns(troubled: Cluster):
    def restarts() -> int:
        pods = troubled.object("pods")["items"]
        (pod,) = [each for each in pods if each["metadata"]["name"].startswith("modelmesh-serving-crashing")]
        return max(each["restartCount"] for each in pod["status"]["containerStatuses"])

    eventually(lambda: restarts() >= 5, "five restarts")
    for name in ("crashing", model_on("crashing")):
        assert len(events(troubled, name)) == 1


def test_tables_and_waits_know_the_condition(troubled: Cluster):
    for table in (troubled.must("get", "servingruntime"), troubled.kubectl("get", "servingruntime")):
        header, *rows = (line.split() for line in table.splitlines())
        assert header[-3:] == ["READY", "REASON", "AGE"]
        shown = {row[0]: tuple(row[-3:-1]) for row in rows}
        assert shown == {name: ("False", reason) for name, (reason, _) in CAUSES.items()} | {
            "mlserver-1.x": ("True", "PodsReady")
        }
    assert "is Ready" in troubled.must("wait", "servingruntime", "mlserver-1.x", "--for", "Ready", "--timeout", "10s")
    troubled.kubectl("wait", "--for=condition=Ready", "servingruntime/mlserver-1.x", "--timeout=10s")
    done = troubled.shoal("wait", "servingruntime", "unbuilt", "--for", "Ready", "--timeout", "1s")
    assert done.code != 0
    assert NOT_BUILT in done.err


def test_once_the_cause_is_mended_the_model_loads(troubled: Cluster):
    troubled.must("apply", "-f", "-", stdin=yaml.safe_dump(mlserver()))
    troubled.must("wait", "servingruntime", "typo", "--for", "Ready", "--timeout", "120s")
    isvc = model_on("typo")
    troubled.must("wait", "isvc", isvc, "--for", "Ready", "--timeout", "60s")
    answer = httpx.post(f"{troubled.rest}/v2/models/{isvc}/infer", content=seed_form(PIXELS), timeout=60)
    assert answer.json()["outputs"][0]["contents"] == {"int64Contents": ["8"]}
    assert "lastFailureInfo" not in troubled.status(isvc)["modelStatus"]


def test_events_of_a_runtime_for_all_namespaces_are_described(cluster: Cluster):
    document = ovms()
    document |= {"kind": "ClusterServingRuntime", "metadata": {"name": "ovms-everywhere"}}
    cluster.must("apply", "-f", "-", stdin=yaml.safe_dump(document))
    said = OVMS.replace("ovms-1.x", "ovms-everywhere")

    def told() -> bool:
        _, _, table = cluster.must("describe", "clusterservingruntime", "ovms-everywhere").partition("Events:")
        return said in table

    eventually(told, "the event is described")
    cluster.must("delete", "clusterservingruntime", "ovms-everywhere")

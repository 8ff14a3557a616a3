"""How runtimes stand, in their status, in their models' status and in events, against the real embedded API server."""

from dataclasses import replace

import pytest

from shoal.controller import troubles
from shoal.controller.conditions import condition
from shoal.controller.kube import CLUSTER_RUNTIME, CONFIG_MAP, DEPLOYMENT, EVENT, ISVC, POD, RUNTIME
from shoal.core.types import ModelState
from shoal.core.views import NO_POD
from shoal.resources.runtimerules import server_types
from shoal_runtime.main import main as adapter
from support.controller import endpoint_view, load_failure, model_view
from support.resources import isvc, model, runtime
from waiting import until

pytestmark = pytest.mark.server

NO_ADAPTER = (
    "runtime ovms-1.x: serverType 'ovms' has no adapter in this version of Shoal; supported: mlserver, and servers of "
    "your own without builtInAdapter"
)
NEVER_PULL = "container server of runtime r cannot start: ErrImageNeverPull: image 'x' is not on this machine"


def _ovms(kind="ServingRuntime"):
    container = {"name": "ovms", "image": "openvino/model_server:2022.3"}
    return runtime("ovms-1.x", builtInAdapter={"serverType": "ovms"}, containers=[container]) | {"kind": kind}


def _pod(name, owner):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "modelmesh-serving",
            "labels": {"modelmesh-service": "modelmesh-serving"},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                }
            ],
            "annotations": {
                "shoal.dev/runtime": "r",
                "shoal.dev/management-port": "8085",
                "shoal.dev/grpc-port": "8001",
            },
        },
        "spec": {"containers": [{"name": "server", "image": "x"}]},
    }


HELD = {"waiting": {"reason": "ErrImageNeverPull", "message": "image 'x' is not on this machine"}}


async def _is(bench, name, state=None, *, ready=False):
    """The container of a pod of runtime `r` is in this state from now on."""
    if await bench.get(POD, name) is None:

        async def deployed():
            return await bench.get(DEPLOYMENT, "modelmesh-serving-r")

        await bench.kube.create(POD, _pod(name, await until(deployed)))
    container = {"name": "server", "image": "x", "imageID": "", "ready": ready, "restartCount": 0, "state": state or {}}
    status = {
        "phase": "Running" if ready else "Pending",
        "podIP": "127.70.1.10",
        "conditions": [{"type": "Ready", "status": str(ready)}],
        "containerStatuses": [container],
    }
    await bench.kube.merge(POD, name, {"status": status}, "status")


def _says(bench, name, reason, resource=RUNTIME, status="False"):
    """The condition of a runtime once it has this reason."""

    async def look():
        document = await bench.get(resource, name)
        found = condition((document or {}).get("status") or {}, "Ready")
        return found if (found.get("reason"), found.get("status")) == (reason, status) else None

    return until(look)


def _waits(bench, name, message):
    async def look():
        document = await bench.get(ISVC, name)
        failure = (((document or {}).get("status") or {}).get("modelStatus") or {}).get("lastFailureInfo") or {}
        return failure if failure.get("message") == message else None

    return until(look)


async def _events(bench, name, namespace="modelmesh-serving"):
    found = await bench.list(EVENT, namespace)
    warnings = [each for each in found if each["involvedObject"]["name"] == name and each["type"] == "Warning"]
    return [(each["involvedObject"]["kind"], each["reason"], each["message"]) for each in warnings]


async def _podless(bench, name, runtime="r"):
    """A model whose runtime has no pod, as the mesh tells of it."""

    async def declared():
        found = bench.mesh.declarations.get(name)
        return found is not None and found.runtime == runtime

    await until(declared)
    failure = replace(load_failure(NO_POD, reason="RuntimeUnhealthy"), pod=None)
    view = model_view(bench.mesh.declarations[name].revision, ModelState.LOADING)
    bench.mesh.show(name, endpoint_view(replace(view, runtime=runtime, failures=(failure,))))


async def test_a_cause_is_told_on_the_runtime_and_on_each_model_that_waits_until_it_ends(bench):
    await bench.configure("scaleToZero: {enabled: false}")
    await bench.apply(RUNTIME, runtime("r"))
    await bench.apply(RUNTIME, runtime("other", [{"name": "prophet", "autoSelect": True}]))
    await bench.control()
    for name in ("m", "n"):
        await bench.apply(ISVC, isvc(name))
        await _podless(bench, name)
    await bench.apply(ISVC, isvc("else", predictor=model("prophet", storageUri="s3://b/p")))
    await _podless(bench, "else", "other")
    await _waits(bench, "m", NO_POD)
    assert (await _says(bench, "r", "Starting"))["message"] == "0 of 2 pods are ready"
    await _is(bench, "p1", {"waiting": {"reason": "ContainerCreating"}})

    await _is(bench, "p1", HELD)
    await _is(bench, "p2", HELD)
    for name in ("m", "n"):
        failure = await _waits(bench, name, f"{NO_POD}: {NEVER_PULL}")
        assert failure["reason"] == "RuntimeUnhealthy"
    assert (await _says(bench, "r", "ErrImageNeverPull"))["message"] == NEVER_PULL
    await _waits(bench, "else", NO_POD)

    async def told():
        return await _events(bench, "m") and await _events(bench, "r")

    await until(told)
    assert await _events(bench, "m") == [("InferenceService", "RuntimeUnhealthy", f"{NO_POD}: {NEVER_PULL}")]
    assert await _events(bench, "r") == [("ServingRuntime", "ErrImageNeverPull", NEVER_PULL)]

    # Another cause is told in its turn; one pod that serves is enough for models.
    held = {"waiting": {"reason": "CreateContainerConfigError", "message": "env A: not found"}}
    other = "container server of runtime r cannot start: CreateContainerConfigError: env A: not found"
    await _is(bench, "p1", held)
    await _is(bench, "p2", held)
    await _waits(bench, "m", f"{NO_POD}: {other}")
    await _is(bench, "p1", ready=True)
    await _waits(bench, "m", NO_POD)  # this mesh does not look at pods
    found = await _says(bench, "r", "CreateContainerConfigError", status="True")
    assert found["message"] == f"1 of 2 pods are ready: {other}"
    await _is(bench, "p2", ready=True)
    assert (await _says(bench, "r", "PodsReady", status="True"))["message"] == "2 of 2 pods are ready"
    reasons = [reason for _, reason, _ in await _events(bench, "r")]
    assert sorted(reasons) == ["CreateContainerConfigError", "ErrImageNeverPull"]


async def test_a_status_that_changes_has_nothing_declared_anew_and_is_not_told_again_after_a_restart(bench):
    await bench.configure("scaleToZero: {enabled: false}")
    await bench.apply(RUNTIME, runtime("r"))
    await bench.control()
    await bench.apply(ISVC, isvc("m"))
    await _podless(bench, "m")
    chooser = bench.mesh.chooser
    await _is(bench, "p3", HELD)
    await _waits(bench, "m", f"{NO_POD}: {NEVER_PULL}")
    await _says(bench, "r", "ErrImageNeverPull")
    assert bench.mesh.chooser is chooser
    assert bench.mesh.calls.count("declare m") == 1

    async def told():
        return await _events(bench, "r")

    await until(told)
    before = [await bench.get(RUNTIME, "r"), await bench.list(EVENT)]
    await bench.stop()
    await bench.control()
    await bench.apply(RUNTIME, runtime("later", [{"name": "prophet"}]))
    await _says(bench, "later", "Starting")
    assert await bench.get(RUNTIME, "r") == before[0]
    assert await bench.list(EVENT) == before[1]


async def test_a_ready_pod_that_the_mesh_cannot_use_is_told_on_the_runtime_and_on_its_models(bench, monkeypatch):
    monkeypatch.setattr(troubles, "_DOUBT", 0.5)
    await bench.configure("scaleToZero: {enabled: false}")
    await bench.apply(RUNTIME, runtime("r"))
    await bench.control()
    await bench.apply(ISVC, isvc("m"))
    await _podless(bench, "m")
    await _is(bench, "p4", ready=True)
    await _says(bench, "r", "PodsReady", status="True")
    (judged,) = bench.mesh.pod_listeners
    judged("p4", "its adapter says: no licence")
    said = "a pod of runtime r is ready, but the mesh cannot use it: its adapter says: no licence"
    assert (await _says(bench, "r", "PodUnusable"))["message"] == said
    await _waits(bench, "m", f"{NO_POD}: {said}")
    judged("p4", "")
    await _says(bench, "r", "PodsReady", status="True")


@pytest.mark.parametrize("resource", [RUNTIME, CLUSTER_RUNTIME])
async def test_a_server_type_without_an_adapter_is_told_and_no_pod_is_started(bench, resource):
    manifest = _ovms("ServingRuntime" if resource is RUNTIME else "ClusterServingRuntime")
    await bench.configure("scaleToZero: {enabled: false}")
    await bench.apply(resource, manifest)
    await bench.control()
    await bench.apply(ISVC, isvc("m", predictor=model("sklearn", runtime="ovms-1.x", storageUri="s3://b/p")))
    await _podless(bench, "m", "ovms-1.x")
    assert (await _says(bench, "ovms-1.x", "NoAdapter", resource))["message"] == NO_ADAPTER
    await _waits(bench, "m", f"{NO_POD}: {NO_ADAPTER}")
    assert await bench.get(DEPLOYMENT, "modelmesh-serving-ovms-1.x") is None

    async def told():
        namespace = "modelmesh-serving" if resource is RUNTIME else "default"
        return await _events(bench, "ovms-1.x", namespace)

    assert await until(told) == [(manifest["kind"], "NoAdapter", NO_ADAPTER)]

    # Who brings an adapter along gets pods.
    await bench.configure("scaleToZero: {enabled: false}\nstorageHelperImage: {command: [/opt/app/ovms-adapter]}")
    await _says(bench, "ovms-1.x", "Starting", resource)
    await _waits(bench, "m", NO_POD)
    assert await bench.get(DEPLOYMENT, "modelmesh-serving-ovms-1.x") is not None
    await bench.configure("scaleToZero: {enabled: false}")
    await _says(bench, "ovms-1.x", "NoAdapter", resource)

    async def gone():
        return await bench.get(DEPLOYMENT, "modelmesh-serving-ovms-1.x") is None

    await until(gone)
    await bench.kube.delete(resource, "ovms-1.x")


async def test_runtimes_that_have_no_pods_say_why(bench):
    await bench.configure("scaleToZero: {enabled: true, gracePeriodSeconds: 1}")
    await bench.apply(RUNTIME, runtime("unused"))
    await bench.apply(RUNTIME, runtime("off", disabled=True))
    await bench.apply(RUNTIME, runtime("none", [{"name": "prophet", "autoSelect": True}], replicas=0))
    await bench.control()
    await bench.apply(ISVC, isvc("m", predictor=model("prophet", storageUri="s3://b/p")))
    await _podless(bench, "m", "none")
    await _says(bench, "unused", "ScaledToZero", status="True")
    await _says(bench, "off", "Disabled")
    await _waits(bench, "m", f"{NO_POD}: runtime none has no pods, because its spec.replicas is 0")
    assert await _events(bench, "unused") + await _events(bench, "off") == []

    # What is Shoal's no longer keeps no word of it that is wrong by now.
    await bench.kube.merge(RUNTIME, "unused", {"spec": {"multiModel": False}})
    await _says(bench, "unused", "NotMultiModel")
    await bench.kube.delete(CONFIG_MAP, "model-serving-config")


async def test_pods_that_cannot_be_created_are_told(bench):
    await bench.configure("scaleToZero: {enabled: false}")
    await bench.apply(RUNTIME, runtime("r"))
    await bench.control()
    await _says(bench, "r", "Starting")
    failed = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    await bench.kube.merge(DEPLOYMENT, "modelmesh-serving-r", {"status": {"conditions": [failed]}}, "status")
    found = await _says(bench, "r", "FailedCreate")
    assert found["message"] == "pods of runtime r cannot be created: exceeded quota"


@pytest.mark.parametrize("kind", server_types())
def test_the_adapter_has_what_the_controller_says_it_has(kind, capsys, monkeypatch):
    from shoal.resources.adapters import missing_adapter
    from shoal.resources.runtimerules import parse
    from shoal.resources.settings import ModelServingConfig

    monkeypatch.delenv("CONTAINER_MEM_REQ_BYTES", raising=False)
    declared = runtime(builtInAdapter={"serverType": kind}, containers=[{"name": kind}])
    lacking = missing_adapter(parse(declared), ModelServingConfig.model_validate({}))
    try:
        assert adapter([kind]) == 2  # it knows the kind, but not how much memory the server has
    except SystemExit:
        assert "invalid choice" in capsys.readouterr().err
        assert lacking
    else:
        assert not lacking

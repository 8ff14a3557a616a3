"""The controller against the real embedded API server."""

import asyncio

import pytest

from shoal.controller import isvcs
from shoal.controller.conditions import condition
from shoal.controller.kube import DEPLOYMENT, EVENT, ISVC, POD, RUNTIME, SECRET, SERVICE, Kube, KubeError
from shoal.core.types import ModelState, Unplaceable
from shoal.mesh.engine.faults import Fault
from shoal.resources.builtin import builtin_runtime
from support.controller import endpoint_view, load_failure, model_view
from support.resources import example, isvc, model, runtime
from waiting import until

pytestmark = pytest.mark.server

DEPLOYED = "modelmesh-serving-mlserver-1.x"


def _status(bench, name, check, namespace="modelmesh-serving"):
    async def look():
        document = await bench.get(ISVC, name, namespace)
        status = (document or {}).get("status") or {}
        return status if check(status) else None

    return look


def _ready(value, reason=None):
    def check(status):
        ready = condition(status, "Ready")
        return ready.get("status") == value and (reason is None or ready.get("reason") == reason)

    return check


async def _events(bench, name):
    return {
        event["reason"]: event
        for event in await bench.list(EVENT, "modelmesh-serving")
        if event["involvedObject"]["name"] == name
    }


async def _told(bench, reason):
    return (await _events(bench, "model-serving-config")).get(reason)


async def test_settings_without_effect_are_told(bench):
    await bench.control()
    await bench.configure("scaleToZero: {enabled: false}\npayloadProcessors: [logger://*]")
    told = await until(lambda: _told(bench, "SettingWithoutEffect"))
    assert (told["type"], told["involvedObject"]["kind"]) == ("Warning", "ConfigMap")
    assert told["message"].startswith("payloadProcessors has no effect: ")


async def test_a_defect_of_the_mesh_is_told_on_its_service(bench):
    await bench.control()
    for listener in bench.mesh.fault_listeners:
        listener(Fault(1000.0, "Tick broke the core: KeyError: 'x'"))

    async def told():
        return (await _events(bench, "modelmesh-serving")).get("MeshFault")

    event = await until(told)
    assert (event["type"], event["involvedObject"]["kind"]) == ("Warning", "Service")
    assert event["message"].startswith("Tick broke the core: KeyError: 'x'; the mesh goes on, its log has the details")


async def test_wrong_storage_entries_are_told(bench):
    await bench.control()
    entries = {"good": '{"type": "pvc", "name": "c"}', "bad": '{"type": "s3", "bukcet": "b"}'}
    secret = {"metadata": {"name": "storage-config", "namespace": "modelmesh-serving"}, "stringData": entries}
    await bench.apply(SECRET, {"apiVersion": "v1", "kind": "Secret"} | secret)

    async def told():
        return [event for event in await bench.list(EVENT) if event["involvedObject"]["kind"] == "Secret"]

    (event,) = await until(told)
    assert (event["type"], event["reason"]) == ("Warning", "InvalidStorageEntry")
    assert event["message"] == "bad.bukcet: unknown field; did you mean 'bucket'?"


async def test_an_inferenceservice_goes_from_declared_to_ready(bench):
    await bench.configure("scaleToZero: {enabled: false}")
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control(admin_address="http://127.64.0.1:18080")
    await bench.apply(ISVC, example("isvc-sklearn-mnist"))
    status = await until(_status(bench, "sklearn-mnist", _ready("False", "Pending")))
    assert status["observedGeneration"] == 1

    declaration = bench.mesh.declarations["sklearn-mnist"]
    assert declaration.revision == "sklearn-mnist__isvc-3c10c62d34"
    assert (declaration.info.type, declaration.info.path, declaration.runtime) == (
        "mt:sklearn",
        "mnist-svm.joblib",
        "mlserver-1.x",
    )
    bench.mesh.show("sklearn-mnist", endpoint_view(model_view(declaration.revision, ModelState.LOADED, copies=1)))
    status = await until(_status(bench, "sklearn-mnist", _ready("True")))
    assert status["url"] == "grpc://modelmesh-serving.modelmesh-serving:8033"
    assert status["servingRuntimeName"] == "mlserver-1.x"
    assert status["modelStatus"]["states"] == {"activeModelState": "Loaded", "targetModelState": ""}

    async def told():
        return "ModelLoaded" in await _events(bench, "sklearn-mnist")

    await until(told)
    await bench.kube.delete(ISVC, "sklearn-mnist")

    async def undeclared():
        return "undeclare sklearn-mnist" in bench.mesh.calls

    await until(undeclared)


async def test_a_runtime_becomes_a_deployment_and_follows_its_changes(bench):
    await bench.configure("scaleToZero: {enabled: false}\npodsPerRuntime: 3")
    await bench.control(admin_address="http://127.64.0.1:18080")
    manifest = builtin_runtime("mlserver-1.x")
    await bench.apply(RUNTIME, manifest)

    async def replicas(number):
        document = await bench.get(DEPLOYMENT, DEPLOYED)
        return document if document and document["spec"]["replicas"] == number else None

    document = await until(lambda: replicas(3))
    assert document["metadata"]["ownerReferences"][0]["name"] == "mlserver-1.x"
    generation = document["metadata"]["generation"]
    mesh_service = await bench.get(SERVICE, "shoal-mesh")
    assert mesh_service["metadata"]["annotations"]["shoal.dev/address"] == "http://127.64.0.1:18080"

    # What somebody else changes is put right.
    await bench.kube.merge(DEPLOYMENT, DEPLOYED, {"spec": {"replicas": 7}})
    document = await until(lambda: replicas(3))
    assert document["metadata"]["generation"] > generation

    manifest["spec"]["replicas"] = 1
    await bench.apply(RUNTIME, manifest)
    await until(lambda: replicas(1))
    assert str(bench.mesh.chooser("mt:sklearn:1")) == "mlserver-1.x"

    manifest["spec"]["disabled"] = True
    await bench.apply(RUNTIME, manifest)

    async def gone():
        return await bench.get(DEPLOYMENT, DEPLOYED) is None

    await until(gone)
    assert isinstance(bench.mesh.chooser("mt:sklearn:1"), Unplaceable)


async def test_runtimes_without_models_have_no_pods_when_so_configured(bench):
    await bench.configure("scaleToZero: {enabled: true, gracePeriodSeconds: 1}\npodsPerRuntime: 2")
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control()

    async def replicas(number):
        document = await bench.get(DEPLOYMENT, DEPLOYED)
        return document is not None and document["spec"]["replicas"] == number

    await until(lambda: replicas(0))
    await bench.apply(ISVC, isvc("m"))
    await until(lambda: replicas(2))
    await bench.kube.delete(ISVC, "m")
    await until(lambda: replicas(0))


async def test_a_new_model_ends_the_grace_period(bench):
    await bench.configure("scaleToZero: {enabled: false}")
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control()

    async def replicas(number):
        document = await bench.get(DEPLOYMENT, DEPLOYED)
        return document is not None and document["spec"]["replicas"] == number

    await until(lambda: replicas(2))
    await bench.configure("scaleToZero: {enabled: true, gracePeriodSeconds: 3600}")
    await bench.apply(ISVC, isvc("m"))
    await until(_status(bench, "m", _ready("False", "Pending")))
    await bench.configure("scaleToZero: {enabled: true, gracePeriodSeconds: 3600}\npodsPerRuntime: 3")
    await until(lambda: replicas(3))


async def test_no_runtime_and_then_one(bench):
    await bench.control()
    await bench.apply(ISVC, isvc("m", predictor=model("prophet", storageUri="s3://b/p")))

    async def unplaceable():
        found = bench.mesh.declarations.get("m")
        return found if found and found.unplaceable else None

    found = await until(unplaceable)
    assert "there are no runtimes" in found.unplaceable.message
    await bench.apply(RUNTIME, runtime("p", [{"name": "prophet", "autoSelect": True}]))

    async def placed():
        return bench.mesh.declarations["m"].runtime == "p"

    await until(placed)
    await bench.kube.delete(RUNTIME, "p")

    async def displaced():
        return bench.mesh.declarations["m"].unplaceable is not None

    await until(displaced)


async def test_a_named_runtime_gets_a_format_it_does_not_list_with_an_event(bench):
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control()
    await bench.apply(ISVC, isvc("m", predictor=model("prophet", runtime="mlserver-1.x", storageUri="s3://b/p")))

    async def told():
        return (await _events(bench, "m")).get("RuntimeMismatch")

    event = await until(told)
    assert event["type"] == "Warning"
    assert event["message"].startswith("the model has format 'prophet', but the specified runtime mlserver-1.x serves")
    assert bench.mesh.declarations["m"].runtime == "mlserver-1.x"
    assert bench.mesh.declarations["m"].unplaceable is None


async def test_failures_are_told_in_status_and_event(bench):
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control()
    await bench.apply(ISVC, isvc("m"))
    await until(_status(bench, "m", _ready("False", "Pending")))
    revision = bench.mesh.declarations["m"].revision
    failed = model_view(revision, ModelState.FAILED_TO_LOAD, failure=load_failure("no such file"))
    bench.mesh.show("m", endpoint_view(failed))
    status = await until(_status(bench, "m", _ready("False", "ModelLoadFailed")))
    assert status["modelStatus"]["lastFailureInfo"]["location"] == "pf"

    async def told():
        return (await _events(bench, "m")).get("ModelLoadFailed")

    event = await until(told)
    assert (event["type"], event["message"]) == ("Warning", "no such file")


async def test_that_a_model_comes_and_goes_is_written_at_a_slow_pace_and_what_matters_at_once(bench, monkeypatch):
    monkeypatch.setattr(isvcs, "_PASSING_PER_SECOND", 0.001)
    monkeypatch.setattr(isvcs, "_PASSING_BURST", 1)
    await bench.configure("scaleToZero: {enabled: false}")
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control()
    await bench.apply(ISVC, isvc("m"))
    await until(_status(bench, "m", _ready("False", "Pending")))

    def show(state, **more):
        bench.mesh.show("m", endpoint_view(model_view(bench.mesh.declarations["m"].revision, state, **more)))

    def in_state(state):
        return _status(bench, "m", lambda status: status["modelStatus"]["states"]["activeModelState"] == state)

    show(ModelState.STANDBY)
    await until(in_state("Standby"))
    show(ModelState.LOADED, copies=1)
    await until(in_state("Loaded"))  # for the first time
    show(ModelState.STANDBY)
    await until(in_state("Standby"))  # the turn that was left
    for _ in range(10):
        show(ModelState.LOADED, copies=1)
        await asyncio.sleep(0.05)
        show(ModelState.STANDBY)
        await asyncio.sleep(0.05)
    show(ModelState.LOADED, copies=1)
    await bench.apply(ISVC, isvc("later"))
    await until(_status(bench, "later", _ready("False", "Pending")))
    assert await in_state("Standby")()
    show(ModelState.FAILED_TO_LOAD, failure=load_failure("broken"))
    await until(in_state("FailedToLoad"))
    show(ModelState.LOADED, copies=1)
    await until(in_state("Loaded"))


async def test_a_taken_name_is_told(bench):
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    bench.mesh.taken.add("m")
    await bench.control()
    await bench.apply(ISVC, isvc("m"))
    status = await until(_status(bench, "m", _ready("False", "InvalidPredictorSpec")))
    assert "in use by another owner" in condition(status, "Ready")["message"]
    assert status["modelStatus"]["transitionStatus"] == "InvalidSpec"


@pytest.mark.parametrize("how", ["removed", "led elsewhere"])
async def test_an_endpoint_changed_by_others_is_declared_again(bench, how):
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control()
    await bench.apply(ISVC, isvc("m"))
    await until(_status(bench, "m", _ready("False", "Pending")))
    assert bench.mesh.calls.count("declare m") == 1
    if how == "removed":
        bench.mesh.lose("m")
    else:
        bench.mesh.show("m", endpoint_view(model_view("other", ModelState.LOADED)))

    async def declared_again():
        return bench.mesh.calls.count("declare m") > 1

    await until(declared_again)


async def test_the_missing_annotation_and_the_wrong_namespace_are_told(bench):
    await bench.control(sole_mesh=True)
    plain = isvc("plain")
    del plain["metadata"]["annotations"]
    await bench.apply(ISVC, plain)
    status = await until(_status(bench, "plain", _ready("False", "NotServed")))
    assert condition(status, "Ready")["message"] == (
        'metadata.annotations["serving.kserve.io/deploymentMode"]: is not set; '
        "set it to 'ModelMesh' to have Shoal serve this model"
    )
    assert "plain" not in bench.mesh.declarations

    elsewhere = isvc("m")
    elsewhere["metadata"]["namespace"] = "default"
    await bench.kube.create(ISVC, elsewhere)
    status = await until(_status(bench, "m", _ready("False", "NotServed"), "default"))
    assert "'modelmesh-serving' only" in condition(status, "Ready")["message"]
    assert "m" not in bench.mesh.declarations


@pytest.mark.parametrize("namespace", ["modelmesh-serving", "default"])
async def test_a_status_of_before_is_not_written_over_a_newer_object(bench, monkeypatch, namespace):
    """Its spec changes between the computing and the writing."""
    merge, left = Kube.merge, []

    async def late(kube, resource, name, patch, subresource="", **more):
        if subresource != "status" or left:
            return await merge(kube, resource, name, patch, subresource, **more)
        left.append(None)
        newer = {"spec": {"predictor": {"model": {"storage": {"path": "newer.joblib"}}}}}
        await merge(kube, resource, name, newer, namespace=namespace)
        try:
            return await merge(kube, resource, name, patch, subresource, **more)
        finally:
            left.append((await bench.get(ISVC, name, namespace)).get("status"))

    monkeypatch.setattr(Kube, "merge", late)
    await bench.control(sole_mesh=True)
    declared = isvc("overtaken")
    declared["metadata"]["namespace"] = namespace
    await bench.kube.create(ISVC, declared)
    await until(_status(bench, "overtaken", lambda status: status.get("observedGeneration") == 2, namespace))
    assert left == [None, None]


async def test_a_stranger_is_told_although_the_api_failed_the_first_time(bench, monkeypatch):
    merge, failures = Kube.merge, iter([True])

    async def failing(kube, resource, name, patch, subresource="", **more):
        if subresource == "status" and next(failures, False):
            raise KubeError(500, "for a moment")
        return await merge(kube, resource, name, patch, subresource, **more)

    monkeypatch.setattr(Kube, "merge", failing)
    await bench.control(sole_mesh=True)
    declared = isvc("stranger")
    declared["metadata"]["namespace"] = "default"
    await bench.kube.create(ISVC, declared)
    await until(_status(bench, "stranger", _ready("False", "NotServed"), "default"))


async def test_removing_the_annotation_is_like_deleting(bench):
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control()
    await bench.apply(ISVC, isvc("m"))
    await until(_status(bench, "m", _ready("False", "Pending")))
    await bench.kube.merge(ISVC, "m", {"metadata": {"annotations": {"serving.kserve.io/deploymentMode": None}}})
    status = await until(_status(bench, "m", _ready("False", "NotServed")))
    assert "undeclare m" in bench.mesh.calls
    assert "url" not in status


async def test_wrong_settings_change_nothing(bench):
    await bench.configure("scaleToZero: {enabled: false}\npodsPerRuntime: 3")
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control()

    async def replicas(number):
        document = await bench.get(DEPLOYMENT, DEPLOYED)
        return document is not None and document["spec"]["replicas"] == number

    await until(lambda: replicas(3))
    generation = (await bench.get(DEPLOYMENT, DEPLOYED))["metadata"]["generation"]
    await bench.configure("podsPerRuntime: many")
    told = await until(lambda: _told(bench, "InvalidSettings"))
    assert "podsPerRuntime" in told["message"]
    await bench.apply(ISVC, isvc("later"))
    await until(_status(bench, "later", _ready("False", "Pending")))
    assert (await bench.get(DEPLOYMENT, DEPLOYED))["metadata"]["generation"] == generation
    await bench.configure("scaleToZero: {enabled: false}\npodsPerRuntime: 1")
    await until(lambda: replicas(1))


async def test_pods_are_handed_to_the_mesh(bench):
    await bench.control()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "p1",
            "namespace": "modelmesh-serving",
            "labels": {"modelmesh-service": "modelmesh-serving"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u", "controller": True}
            ],
            "annotations": {
                "shoal.dev/runtime": "mlserver-1.x",
                "shoal.dev/management-port": "8085",
                "shoal.dev/grpc-port": "8001",
            },
        },
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    await bench.kube.create(POD, pod)
    await bench.kube.merge(POD, "p1", {"status": {"phase": "Running", "podIP": "127.70.1.10"}}, "status")

    async def found():
        return "p1" in bench.mesh.pods

    await until(found)
    assert bench.mesh.pods["p1"].host == "127.70.1.10"


async def test_a_restarted_controller_hands_everything_over_and_cleans_up_what_was_deleted_meanwhile(bench):
    await bench.configure("scaleToZero: {enabled: false}")
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.apply(ISVC, isvc("m"))
    await bench.control()
    assert bench.mesh.calls.index("declare m") < bench.mesh.calls.index("synced")

    async def deployed():
        return await bench.get(DEPLOYMENT, DEPLOYED)

    before = await until(deployed)
    await bench.stop()
    await bench.control()
    assert (await deployed())["metadata"]["generation"] == before["metadata"]["generation"]
    await bench.stop()
    await bench.kube.delete(RUNTIME, "mlserver-1.x")
    await bench.kube.delete(ISVC, "m")
    bench.mesh.calls.clear()
    await bench.control()
    assert bench.mesh.calls.index("undeclare m") < bench.mesh.calls.index("synced")

    async def gone():
        return await deployed() is None

    await until(gone)


async def test_the_controller_outlives_the_api_server(bench):
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control()
    await bench.apply(ISVC, isvc("m"))
    await until(_status(bench, "m", _ready("False", "Pending")))
    await asyncio.to_thread(bench.api.kill)
    # What changes while nobody can write it down is written later.
    bench.mesh.show("m", endpoint_view(model_view(bench.mesh.declarations["m"].revision, ModelState.LOADED, copies=1)))
    with pytest.raises(KubeError):
        await bench.apply(ISVC, isvc("n"))
    await asyncio.to_thread(bench.api.start)
    await until(_status(bench, "m", _ready("True")), seconds=40)
    await bench.apply(ISVC, isvc("n"))

    async def declared():
        return "n" in bench.mesh.declarations

    await until(declared, seconds=40)
    assert not bench.task.done()


async def test_an_idle_controller_writes_nothing(bench):
    await bench.configure("scaleToZero: {enabled: false}")
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control()
    await bench.apply(ISVC, isvc("m"))
    await until(_status(bench, "m", _ready("False", "Pending")))
    failed = load_failure("same")
    for number in range(20):
        bench.mesh.show(
            "m",
            endpoint_view(
                model_view(bench.mesh.declarations["m"].revision, ModelState.FAILED_TO_LOAD, failure=failed), None, None
            ),
        )
        if number == 0:
            await until(_status(bench, "m", _ready("False", "ModelLoadFailed")))
            first = (await bench.get(ISVC, "m"))["metadata"]["resourceVersion"]
    # A later change of another object passes through the same queue: by then the twenty were looked at.
    await bench.apply(ISVC, isvc("later"))
    await until(_status(bench, "later", _ready("False", "Pending")))
    assert (await bench.get(ISVC, "m"))["metadata"]["resourceVersion"] == first

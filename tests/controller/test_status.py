from shoal.controller.conditions import condition
from shoal.controller.status import DeclaredStatus, ServiceAddresses, merge_patch, status_of
from shoal.core.types import ModelState, RevisionId, Transition
from shoal.resources.choose import Chosen
from support.controller import endpoint_view, load_failure, model_view

ADDRESSES = ServiceAddresses("grpc://modelmesh-serving.ns:8033", "http://modelmesh-serving.ns:8008")
NOW = 1_700_000_000.0


def _declared(revision="m__isvc-1", **more):
    return DeclaredStatus(3, RevisionId(revision), Chosen("mlserver-1.x", False, "fits"), **more)


def _status(view, declared=None, old=None, now=NOW):
    return status_of(declared or _declared(), view, ADDRESSES, old or {}, now)


def _conditions(status):
    return {found["type"]: found["status"] for found in status["conditions"]}


def test_a_loaded_model_has_the_whole_of_upstreams_status():
    status = _status(endpoint_view(model_view("m__isvc-1", ModelState.LOADED, copies=2)))
    time = "2023-11-14T22:13:20Z"
    assert status == {
        "url": "grpc://modelmesh-serving.ns:8033",
        "components": {
            "predictor": {
                "url": "grpc://modelmesh-serving.ns:8033",
                "grpcUrl": "grpc://modelmesh-serving.ns:8033",
                "restUrl": "http://modelmesh-serving.ns:8008",
            }
        },
        "conditions": [
            {"type": "PredictorReady", "status": "True", "lastTransitionTime": time},
            {"type": "Ready", "status": "True", "lastTransitionTime": time},
            {"type": "Loaded", "status": "True", "lastTransitionTime": time},
        ],
        "modelStatus": {
            "transitionStatus": "UpToDate",
            "states": {"activeModelState": "Loaded", "targetModelState": ""},
            "copies": {"totalCopies": 2, "failedCopies": 0},
        },
        "modelRevisionName": "m__isvc-1",
        "servingRuntimeName": "mlserver-1.x",
        "observedGeneration": 3,
    }


def test_ready_does_not_pretend():
    def ready(state):
        return _conditions(_status(endpoint_view(model_view("m__isvc-1", state))))

    assert ready(ModelState.PENDING) == {"PredictorReady": "False", "Ready": "False", "Loaded": "False"}
    assert ready(ModelState.LOADING) == {"PredictorReady": "False", "Ready": "False", "Loaded": "False"}
    assert ready(ModelState.STANDBY) == {"PredictorReady": "True", "Ready": "True", "Loaded": "False"}
    assert _conditions(_status(None))["Ready"] == "False"


def test_a_model_on_standby_without_any_pod_is_not_ready():
    unhealthy = load_failure("Waiting for supporting runtime Pod to become available", reason="RuntimeUnhealthy")
    status = _status(endpoint_view(model_view("m__isvc-1", ModelState.STANDBY, failure=unhealthy)))
    ready = condition(status, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RuntimeUnhealthy")


def test_a_model_that_did_not_load_is_not_ready_once_its_failure_is_forgotten():
    failed = model_view("m__isvc-1", ModelState.FAILED_TO_LOAD, failure=load_failure("no such file"))
    before = _status(endpoint_view(failed))
    known = before["modelStatus"]["lastFailureInfo"]
    for state in (ModelState.STANDBY, ModelState.LOADING, ModelState.STANDBY):
        before = _status(endpoint_view(model_view("m__isvc-1", state)), old=before, now=NOW + 3600)
        assert _conditions(before)["Ready"] == "False"
        assert before["modelStatus"]["lastFailureInfo"] == known
    ready = condition(before, "Ready")
    assert (ready["reason"], ready["message"]) == ("ModelLoadFailed", "no such file")
    loaded = _status(endpoint_view(model_view("m__isvc-1", ModelState.LOADED)), old=before)
    assert "lastFailureInfo" not in loaded["modelStatus"]
    evicted = _status(endpoint_view(model_view("m__isvc-1", ModelState.STANDBY)), old=loaded)
    assert _conditions(evicted)["Ready"] == "True"
    other = endpoint_view(model_view("m__isvc-2", ModelState.STANDBY))
    assert _conditions(_status(other, _declared("m__isvc-2"), before))["Ready"] == "True"


def test_a_model_that_is_loaded_again_for_a_request_stays_ready():
    old = _status(endpoint_view(model_view("m__isvc-1", ModelState.STANDBY)))
    status = _status(endpoint_view(model_view("m__isvc-1", ModelState.LOADING)), old=old, now=NOW + 60)
    assert _conditions(status) == {"PredictorReady": "True", "Ready": "True", "Loaded": "False"}
    assert condition(status, "Ready") == condition(old, "Ready")


def test_another_revision_that_loads_for_the_first_time_is_not_ready():
    old = _status(endpoint_view(model_view("m__isvc-1", ModelState.LOADED)))
    view = endpoint_view(model_view("m__isvc-2", ModelState.LOADING))
    assert _conditions(_status(view, _declared("m__isvc-2"), old))["Ready"] == "False"


def test_a_failed_load_tells_why_and_where():
    view = endpoint_view(model_view("m__isvc-1", ModelState.FAILED_TO_LOAD, failure=load_failure("no such file")))
    status = _status(view)
    assert status["modelStatus"]["lastFailureInfo"] == {
        "location": "pf",
        "reason": "ModelLoadFailed",
        "message": "no such file",
        "modelRevisionName": "m__isvc-1",
        "time": "1970-01-01T00:16:40Z",
    }
    assert status["modelStatus"]["copies"] == {"totalCopies": 0, "failedCopies": 1}
    ready = condition(status, "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "ModelLoadFailed", "no such file")


def test_a_failed_update_leaves_the_active_revision_ready():
    active = model_view("m__isvc-1", ModelState.LOADED, copies=1)
    target = model_view("m__isvc-2", ModelState.FAILED_TO_LOAD, failure=load_failure())
    view = endpoint_view(active, target, Transition.BLOCKED_BY_FAILED_LOAD)
    status = _status(view, _declared("m__isvc-2"))
    assert _conditions(status) == {"PredictorReady": "True", "Ready": "True", "Loaded": "False"}
    assert condition(status, "Loaded")["reason"] == "BlockedByFailedLoad"
    assert condition(status, "Loaded")["message"] == "boom"
    model = status["modelStatus"]
    assert model["transitionStatus"] == "BlockedByFailedLoad"
    assert model["states"] == {"activeModelState": "Loaded", "targetModelState": "FailedToLoad"}
    assert model["lastFailureInfo"]["modelRevisionName"] == "m__isvc-2"
    assert status["modelRevisionName"] == "m__isvc-1"


def test_loaded_waits_for_the_revision_declared_last():
    view = endpoint_view(model_view("m__isvc-1", ModelState.LOADED, copies=1))
    status = _status(view, _declared("m__isvc-2"))
    assert status["modelStatus"]["transitionStatus"] == "InProgress"
    assert _conditions(status)["Loaded"] == "False"


def test_a_wrong_spec_is_told_and_the_old_model_goes_on():
    declared = DeclaredStatus(4, invalid="spec.predictor: names no model")
    view = endpoint_view(model_view("m__isvc-1", ModelState.LOADED, copies=1))
    status = _status(view, declared)
    assert status["modelStatus"]["transitionStatus"] == "InvalidSpec"
    assert status["modelStatus"]["lastFailureInfo"]["reason"] == "InvalidPredictorSpec"
    assert _conditions(status) == {"PredictorReady": "True", "Ready": "False", "Loaded": "False"}
    assert condition(status, "Ready")["message"] == "spec.predictor: names no model"
    fresh = _status(None, declared)
    assert _conditions(fresh) == {"PredictorReady": "False", "Ready": "False", "Loaded": "False"}


def test_what_did_not_change_needs_no_write_at_any_later_time():
    invalid = DeclaredStatus(4, invalid="wrong")
    failed = endpoint_view(model_view("m__isvc-1", ModelState.FAILED_TO_LOAD, failure=load_failure(at=NOW)))
    nowhere = load_failure(at=0.0, reason="NoSupportingRuntime")
    unplaceable = endpoint_view(model_view("m__isvc-1", ModelState.FAILED_TO_LOAD, failure=nowhere))
    for declared, view in (
        (_declared(), endpoint_view(model_view("m__isvc-1", ModelState.LOADED))),
        (_declared(), failed),
        (_declared(), unplaceable),
        (invalid, None),
        (DeclaredStatus(1, not_ours="annotation"), None),
    ):
        first = _status(view, declared)
        assert merge_patch(first, _status(view, declared, first, NOW + 1000)) == {}


def test_the_same_failure_is_dated_anew_only_now_and_then():
    def failed(at):
        return endpoint_view(model_view("m__isvc-1", ModelState.FAILED_TO_LOAD, failure=load_failure(at=at)))

    first = _status(failed(NOW))
    assert _status(failed(NOW + 5), old=first) == first
    later = _status(failed(NOW + 25), old=first)
    assert later["modelStatus"]["lastFailureInfo"]["time"] > first["modelStatus"]["lastFailureInfo"]["time"]


def test_what_others_wrote_stays():
    old = {
        "deploymentMode": "ModelMesh",
        "components": {"transformer": {"url": "u"}},
        "conditions": [{"type": "TransformerReady", "status": "True"}],
    }
    status = _status(endpoint_view(model_view("m__isvc-1", ModelState.LOADED)), old=old)
    assert status["deploymentMode"] == "ModelMesh"
    assert status["components"]["transformer"] == {"url": "u"}
    assert _conditions(status)["TransformerReady"] == "True"


def test_without_the_annotation_one_condition_says_so_and_nothing_of_ours_remains():
    old = _status(endpoint_view(model_view("m__isvc-1", ModelState.LOADED)))
    status = _status(None, DeclaredStatus(5, not_ours="set the annotation"), old)
    (ready,) = status["conditions"]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "NotServed")
    assert ready["message"] == "set the annotation"
    patch = merge_patch(old, status)
    assert patch["url"] is None
    assert patch["modelStatus"] is None


def test_a_cluster_wide_runtime_is_named_in_its_own_field():
    declared = DeclaredStatus(1, RevisionId("m__isvc-1"), Chosen("triton", True, "fits"))
    status = _status(endpoint_view(model_view("m__isvc-1", ModelState.LOADED)), declared)
    assert status["clusterServingRuntimeName"] == "triton"
    assert "servingRuntimeName" not in status


def test_a_merge_patch_removes_changes_and_adds():
    assert merge_patch({"a": 1, "b": {"c": 1, "d": 2}, "e": 1}, {"b": {"c": 1, "d": 3}, "e": 1, "f": []}) == {
        "a": None,
        "b": {"d": 3},
        "f": [],
    }

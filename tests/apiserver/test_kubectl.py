"""The real kubectl, unchanged, against a real server: every verb users of the seeds need."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
import yaml

from support.apiserver import CONFIG_MAPS, NAMESPACE, SERVICES, ApiServer, config_map, deployment, isvc, pod
from support.resources import runtime

pytestmark = pytest.mark.server


def dump(document) -> str:
    return yaml.safe_dump(document)


def test_apply_get_and_delete_an_isvc(server: ApiServer) -> None:
    assert "created" in server.kubectl("apply", "-f", "-", stdin=dump(isvc()))
    assert "unchanged" in server.kubectl("apply", "-f", "-", stdin=dump(isvc()))
    server.put_status(
        f"{SERVICES}/sklearn-mnist",
        {"url": "grpc://modelmesh-serving.modelmesh-serving:8033", "conditions": [{"type": "Ready", "status": "True"}]},
    )
    header, row = server.kubectl("get", "isvc").splitlines()
    assert header.split() == ["NAME", "URL", "READY", "AGE"]
    assert row.split()[:3] == ["sklearn-mnist", "grpc://modelmesh-serving.modelmesh-serving:8033", "True"]
    assert json.loads(server.kubectl("get", "isvc", "-A", "-o", "json"))["items"][0]["metadata"]["generation"] == 1
    assert server.kubectl("get", "isvc", "-o", "name") == "inferenceservice.serving.kserve.io/sklearn-mnist\n"
    assert "Storage" in server.kubectl("describe", "isvc", "sklearn-mnist")
    assert "deleted" in server.kubectl("delete", "isvc", "sklearn-mnist")
    assert "NotFound" in server.kubectl("get", "isvc", "sklearn-mnist", fails=True)


def test_changes_keep_status_and_count_generations(server: ApiServer) -> None:
    server.kubectl("apply", "-f", "-", stdin=dump(isvc()))
    server.put_status(f"{SERVICES}/sklearn-mnist", {"url": "grpc://x:1"})
    server.kubectl("label", "isvc", "sklearn-mnist", "team=a")
    server.kubectl("annotate", "isvc", "sklearn-mnist", "note=b")
    assert server.get(f"{SERVICES}/sklearn-mnist")["metadata"]["generation"] == 1
    merge = '{"spec":{"predictor":{"minReplicas":2}},"status":{"url":"forged"}}'
    server.kubectl("patch", "isvc", "sklearn-mnist", "--type", "merge", "-p", merge)
    operations = '[{"op":"replace","path":"/spec/predictor/minReplicas","value":1}]'
    server.kubectl("patch", "isvc", "sklearn-mnist", "--type", "json", "-p", operations)
    stored = server.get(f"{SERVICES}/sklearn-mnist")
    assert stored["metadata"]["generation"] == 3
    assert stored["status"] == {"url": "grpc://x:1"}
    assert stored["metadata"]["labels"] == {"team": "a"}


def test_edit_and_replace(server: ApiServer) -> None:
    server.kubectl("create", "-f", "-", stdin=dump(isvc()))
    editor = {"EDITOR": "sed -i s/mnist-svm/mnist-new/", "KUBE_EDITOR": "sed -i s/mnist-svm/mnist-new/"}
    assert "edited" in server.kubectl("edit", "isvc", "sklearn-mnist", env=editor)
    stored = server.get(f"{SERVICES}/sklearn-mnist")
    assert stored["spec"]["predictor"]["model"]["storage"]["path"] == "mnist-new.joblib"
    assert "replaced" in server.kubectl("replace", "-f", "-", stdin=dump(isvc()))
    stale = isvc(resourceVersion=stored["metadata"]["resourceVersion"])
    refused = server.kubectl("replace", "-f", "-", stdin=dump(stale), fails=True)
    assert "the object has been modified" in refused


def test_unknown_and_duplicate_fields_are_refused(server: ApiServer) -> None:
    wrong = isvc()
    wrong["spec"]["predictor"]["modle"] = {}
    refused = server.kubectl("apply", "-f", "-", stdin=dump(wrong), fails=True)
    assert "strict decoding error: unknown field \"spec.predictor.modle\" (did you mean 'model'?)" in refused
    body = json.dumps(isvc())[:-1] + ', "spec": {}}'
    answer = server.http.post(f"{SERVICES}?fieldValidation=Strict", content=body)
    assert answer.status_code == 400
    assert 'duplicate field "spec"' in answer.json()["message"]
    warned = server.http.post(SERVICES, json=wrong)
    assert warned.status_code == 201
    assert 'unknown field \\"spec.predictor.modle\\"' in warned.headers["warning"]
    assert "modle" not in warned.json()["spec"]["predictor"]


def test_unknown_fields_and_wrong_values_are_told_together_with_their_fixes(server: ApiServer) -> None:
    wrong = isvc()
    wrong["spec"]["predictor"]["minReplicas"] = "two"
    wrong["spec"]["predictor"]["model"]["storage"]["pth"] = "x"
    refused = server.kubectl("apply", "-f", "-", stdin=dump(wrong), fails=True)
    assert "unknown field \"spec.predictor.model.storage.pth\" (did you mean 'path'?)" in refused
    assert "also wrong: spec.predictor.minReplicas: must be a whole number" in refused
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}}
    claim["spec"] = {"accessmodes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "lots"}}}
    refused = server.kubectl("create", "-f", "-", stdin=dump(claim), fails=True)
    assert "unknown field \"spec.accessmodes\" (did you mean 'accessModes'?)" in refused
    assert "spec.accessModes: Required value" in refused
    assert "spec.resources.requests.storage: Invalid value" in refused


def test_every_wrong_field_is_listed(server: ApiServer) -> None:
    wrong = isvc()
    wrong["spec"]["predictor"]["minReplicas"] = "two"
    wrong["spec"]["predictor"]["model"]["modelFormat"] = {"name": 7}
    answer = server.http.post(SERVICES, json=wrong)
    assert (answer.status_code, answer.json()["reason"]) == (422, "Invalid")
    fields = {cause["field"] for cause in answer.json()["details"]["causes"]}
    assert {"spec.predictor.minReplicas", "spec.predictor.model.modelFormat.name"} <= fields
    assert "spec.predictor.minReplicas" in server.kubectl("apply", "-f", "-", stdin=dump(wrong), fails=True)


def test_dry_runs_store_nothing(server: ApiServer) -> None:
    assert "dry run" in server.kubectl("apply", "--dry-run=server", "-f", "-", stdin=dump(isvc()))
    assert "dry run" in server.kubectl("apply", "--dry-run=client", "-f", "-", stdin=dump(isvc()))
    assert server.get(SERVICES)["items"] == []
    server.kubectl("apply", "-f", "-", stdin=dump(isvc()))
    server.kubectl("delete", "isvc", "sklearn-mnist", "--dry-run=server")
    assert len(server.get(SERVICES)["items"]) == 1


def test_server_side_apply_takes_json_with_any_text(server: ApiServer) -> None:
    body = json.dumps(config_map("text", fish="größe \U0001f41f"))
    assert "\\ud83d" in body
    answer = server.http.patch(
        f"{CONFIG_MAPS}/text?fieldManager=one", content=body, headers={"content-type": "application/apply-patch+yaml"}
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["data"] == {"fish": "größe \U0001f41f"}
    flow = "{apiVersion: v1, kind: ConfigMap, metadata: {name: text}, data: {fish: carp}}"
    server.http.patch(
        f"{CONFIG_MAPS}/text?fieldManager=one", content=flow, headers={"content-type": "application/apply-patch+yaml"}
    )
    assert server.get(f"{CONFIG_MAPS}/text")["data"] == {"fish": "carp"}


def test_server_side_apply_conflicts_and_force(server: ApiServer) -> None:
    first = config_map("shared", color="red", size="1")
    server.kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=dump(first))
    second = dump(config_map("shared", color="blue"))
    refused = server.kubectl("apply", "--server-side", "--field-manager=two", "-f", "-", stdin=second, fails=True)
    assert 'conflict with "one"' in refused
    assert ".data.color" in refused
    force = ("apply", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "-")
    server.kubectl(*force, stdin=second)
    assert server.get(f"{CONFIG_MAPS}/shared")["data"] == {"color": "blue", "size": "1"}
    dropped = dump(config_map("shared"))
    server.kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=dropped)
    assert server.get(f"{CONFIG_MAPS}/shared")["data"] == {"color": "blue"}


def test_client_side_apply_can_move_to_server_side(server: ApiServer) -> None:
    server.kubectl("apply", "-f", "-", stdin=dump(isvc()))
    changed = isvc()
    changed["spec"]["predictor"]["model"]["storage"]["path"] = "other.joblib"
    server.kubectl("apply", "--server-side", "-f", "-", stdin=dump(changed))
    managers = {m["manager"] for m in server.get(f"{SERVICES}/sklearn-mnist")["metadata"]["managedFields"]}
    assert "kubectl" in managers
    assert "kubectl-client-side-apply" not in managers


def test_wait(server: ApiServer) -> None:
    server.kubectl("apply", "-f", "-", stdin=dump(isvc()))
    command = server.kubectl_command("wait", "--for=condition=Ready", "isvc/sklearn-mnist", "--timeout=20s")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        server.put_status(
            f"{SERVICES}/sklearn-mnist",
            {"conditions": [{"type": "Ready", "status": "True"}], "modelStatus": {"transitionStatus": "UpToDate"}},
        )
        assert waiting.wait(20) == 0
    path = "--for=jsonpath={.status.modelStatus.transitionStatus}=UpToDate"
    server.kubectl("wait", path, "isvc/sklearn-mnist", "--timeout=5s")
    command = server.kubectl_command("wait", "--for=delete", "isvc/sklearn-mnist", "--timeout=20s")
    with subprocess.Popen(command) as waiting:
        server.kubectl("delete", "isvc", "sklearn-mnist")
        assert waiting.wait(20) == 0


def test_get_watch_streams_rows(server: ApiServer) -> None:
    server.kubectl("apply", "-f", "-", stdin=dump(isvc("first")))
    command = server.kubectl_command("get", "isvc", "-w")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().split() == ["NAME", "URL", "READY", "AGE"]
        assert watching.stdout.readline().split()[0] == "first"
        server.kubectl("apply", "-f", "-", stdin=dump(isvc("second")))
        assert watching.stdout.readline().split()[0] == "second"
        watching.terminate()


def test_selectors(server: ApiServer) -> None:
    for name, team in (("a", "red"), ("b", "blue"), ("c", "red")):
        server.kubectl("apply", "-f", "-", stdin=dump(isvc(name, labels={"team": team})))
    names = ("get", "isvc", "-o", "name")
    assert server.kubectl(*names, "-l", "team=red").count("\n") == 2
    assert server.kubectl(*names, "-l", "team in (blue,green)").endswith("/b\n")
    assert server.kubectl(*names, "-l", "team!=red").endswith("/b\n")
    assert server.kubectl(*names, "--field-selector", "metadata.name=c").endswith("/c\n")
    refused = server.kubectl(*names, "--field-selector", "spec.x=1", fails=True)
    assert "metadata.name" in refused
    server.kubectl("delete", "isvc", "-l", "team=red")
    assert server.kubectl(*names).endswith("/b\n")


def test_chunked_lists(server: ApiServer) -> None:
    for number in range(7):
        assert server.http.post(CONFIG_MAPS, json=config_map(f"m{number}")).status_code == 201
    assert server.kubectl("get", "cm", "--chunk-size=2", "-o", "name").count("\n") == 7


def test_claims_and_secrets(server: ApiServer) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "my-models-pvc"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "alibabacloud-cnfs-nas",
            "volumeMode": "Filesystem",
        },
    }
    server.kubectl("apply", "-f", "-", stdin=dump(claim))
    header, row = server.kubectl("get", "pvc").splitlines()
    assert header.split() == ["NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS", "MODES", "STORAGECLASS", "AGE"]
    assert row.split()[1] == "Bound"
    assert row.split()[3:6] == ["1Gi", "RWX", "alibabacloud-cnfs-nas"]
    assert "unchanged" in server.kubectl("apply", "-f", "-", stdin=dump(claim))
    server.kubectl("create", "secret", "generic", "plain", "--from-literal=key=value")
    assert server.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/plain")["data"] == {"key": "dmFsdWU="}
    bad = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bad"}, "data": {"key": "not base64!"}}
    refused = server.http.post(f"/api/v1/namespaces/{NAMESPACE}/secrets", json=bad)
    assert refused.status_code == 422
    assert "stringData" in refused.json()["message"]


def test_deployments_scale_restart_and_take_their_pods_along(server: ApiServer) -> None:
    server.kubectl("apply", "-f", "-", stdin=dump(deployment()))
    server.kubectl("scale", "deployment", "web", "--replicas=3")
    server.kubectl("rollout", "restart", "deployment", "web")
    server.kubectl("set", "env", "deployment/web", "B=2")
    stored = server.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/web")
    assert stored["spec"]["replicas"] == 3
    assert "kubectl.kubernetes.io/restartedAt" in stored["spec"]["template"]["metadata"]["annotations"]
    environment = stored["spec"]["template"]["spec"]["containers"][0]["env"]
    assert environment == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    assert server.http.post(pods, json=pod("web-1", stored)).status_code == 201
    main = {"name": "main", "ready": True, "restartCount": 0, "image": "x", "imageID": ""}
    server.put_status(f"{pods}/web-1", {"phase": "Running", "containerStatuses": [main]})
    row = server.kubectl("get", "pods").splitlines()[1].split()
    assert row[:4] == ["web-1", "1/2", "Running", "0"]
    assert server.kubectl("get", "pods", "--field-selector=status.phase=Running", "-o", "name") == "pod/web-1\n"
    server.kubectl("delete", "deployment", "web")
    leaving = server.get(f"{pods}/web-1")["metadata"]
    assert leaving["deletionGracePeriodSeconds"] == 30
    assert "Terminating" in server.kubectl("get", "pods")
    gone = server.http.delete(f"{pods}/web-1?gracePeriodSeconds=0")
    assert gone.status_code == 200
    assert server.http.get(f"{pods}/web-1").status_code == 404


def test_foreground_deletion_waits_for_pods(server: ApiServer) -> None:
    deployments, pods = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", f"/api/v1/namespaces/{NAMESPACE}/pods"
    owner = server.http.post(deployments, json=deployment()).json()
    server.http.post(pods, json=pod("web-1", owner))
    server.kubectl("delete", "deployment", "web", "--cascade=foreground", "--wait=false")
    assert server.get(f"{deployments}/web")["metadata"]["finalizers"] == ["foregroundDeletion"]
    server.http.delete(f"{pods}/web-1?gracePeriodSeconds=0")
    assert server.http.get(f"{deployments}/web").status_code == 404


def test_orphans_stay(server: ApiServer) -> None:
    deployments, pods = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", f"/api/v1/namespaces/{NAMESPACE}/pods"
    owner = server.http.post(deployments, json=deployment()).json()
    server.http.post(pods, json=pod("web-1", owner))
    server.kubectl("delete", "deployment", "web", "--cascade=orphan")
    left = server.get(f"{pods}/web-1")["metadata"]
    assert "ownerReferences" not in left
    assert "deletionTimestamp" not in left


def test_a_pod_of_no_deployment_is_refused_with_the_way_around(server: ApiServer) -> None:
    refused = server.kubectl("run", "pvc-access", "--image=ubuntu", fails=True)
    assert "shoal pvc create NAME --from PATH" in refused


def test_finalizers_hold_an_object(server: ApiServer) -> None:
    server.http.post(SERVICES, json=isvc("held", finalizers=["shoal.dev/unload"]))
    server.kubectl("delete", "isvc", "held", "--wait=false")
    assert server.get(f"{SERVICES}/held")["metadata"]["deletionTimestamp"]
    server.kubectl("patch", "isvc", "held", "--type=merge", "-p", '{"metadata":{"finalizers":[]}}')
    assert server.http.get(f"{SERVICES}/held").status_code == 404


def test_namespaces(server: ApiServer) -> None:
    nowhere = dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}})
    refused = server.kubectl("apply", "-n", "absent", "-f", "-", stdin=nowhere, fails=True)
    assert "kubectl create namespace absent" in refused
    server.kubectl("create", "namespace", "other")
    server.kubectl("create", "configmap", "x", "-n", "other", "--from-literal=a=b")
    server.kubectl("delete", "namespace", "other")
    assert server.http.get("/api/v1/namespaces/other").status_code == 404
    assert server.get("/api/v1/configmaps")["items"] == []
    assert "may not be deleted" in server.kubectl("delete", "namespace", "default", fails=True)


def test_logs(server: ApiServer) -> None:
    owner = server.http.post(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", json=deployment()).json()
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    server.http.post(pods, json=pod("web-1", owner))
    directory = server.state_dir / "pods" / "web-1"
    directory.mkdir(parents=True)
    log = directory / "main.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    (directory / "adapter.log").write_text("from the adapter\n")
    (directory / "main.log.1").write_text("before the restart\n")
    assert server.kubectl("logs", "web-1").count("\n") == 100
    assert server.kubectl("logs", "web-1", "-c", "main", "--tail=2") == "line 98\nline 99\n"
    assert "--tail" in server.kubectl("logs", "web-1", "-c", "adapter", "--since=1h", fails=True)
    assert server.kubectl("logs", "web-1", "--previous") == "before the restart\n"
    assert server.kubectl("logs", "deployment/web", "--tail=1") == "line 99\n"
    assert "not valid for pod" in server.kubectl("logs", "web-1", "-c", "../main", fails=True)
    assert "main, adapter" in server.http.get(f"{pods}/web-1/log?container=..%2fmain").json()["message"]
    command = server.kubectl_command("logs", "web-1", "-c", "main", "-f", "--tail=0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        deadline = time.monotonic() + 10
        with log.open("a") as file:
            while time.monotonic() < deadline and following.poll() is None:
                file.write("news\n")
                file.flush()
                time.sleep(0.05)
                if time.monotonic() > deadline - 9:
                    break
        server.http.delete(f"{pods}/web-1?gracePeriodSeconds=0")
        assert following.wait(10) == 0
        assert "news\n" in following.stdout.readlines()


def test_discovery_and_explain(server: ApiServer) -> None:
    listed = server.kubectl("api-resources", "-o", "name")
    assert "inferenceservices.serving.kserve.io" in listed
    assert "modelFormat" in server.kubectl("explain", "isvc.spec.predictor.model")
    assert "valueFrom" in server.kubectl("explain", "deployment.spec.template.spec.containers.env")
    assert server.kubectl("auth", "can-i", "create", "isvc").strip() == "yes"
    assert "Server Version" in server.kubectl("version")
    assert "deployment.apps" not in server.kubectl("get", "all")


def test_exec_says_what_to_do(server: ApiServer) -> None:
    owner = server.http.post(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", json=deployment()).json()
    server.http.post(f"/api/v1/namespaces/{NAMESPACE}/pods", json=pod("web-1", owner))
    answer = server.http.post(f"/api/v1/namespaces/{NAMESPACE}/pods/web-1/exec?command=ls")
    assert (answer.status_code, answer.json()["kind"]) == (501, "Status")
    assert "shoal pvc create" in answer.json()["message"]


def test_a_named_runtime_that_does_not_list_the_format_is_warned_of(server: ApiServer) -> None:
    server.kubectl("apply", "-f", "-", stdin=dump(runtime("own", [{"name": "prophet", "version": "1"}])))
    named = isvc()
    named["spec"]["predictor"]["model"] |= {"runtime": "own", "modelFormat": {"name": "sklearn"}}
    command = server.kubectl_command("apply", "-f", "-")
    done = subprocess.run(command, input=dump(named), capture_output=True, text=True, timeout=60, check=True)
    assert (
        "Warning: the model has format 'sklearn', but the specified runtime own serves the formats prophet: "
        "it may fail to load"
    ) in done.stderr
    named["spec"]["predictor"]["model"]["modelFormat"] = {"name": "prophet"}
    done = subprocess.run(command, input=dump(named), capture_output=True, text=True, timeout=60, check=True)
    assert "Warning" not in done.stderr

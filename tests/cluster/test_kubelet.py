"""The local kubelet against the real embedded API server, with real processes as containers."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from pathlib import Path

import pytest

from shoal.cluster.kube_client import CLAIMS, CONFIG_MAPS, DEPLOYMENTS, EVENTS, PODS, SECRETS, Object
from shoal.cluster.kubelet.podstatus import seconds_of
from shoal.cluster.network import Subnet
from support.cluster import NAMESPACE, SLEEP, Cluster, cluster, container_of, gone, is_ready, pid_of, python
from waiting import until

pytestmark = pytest.mark.server
PRINT_ENV = "import json, os, time; print(json.dumps(dict(os.environ)), flush=True); time.sleep(1000)"


async def log_json(node: Cluster, pod: Object) -> dict[str, str]:
    async def look() -> dict[str, str] | None:
        text = node.log(pod)
        return json.loads(text.splitlines()[-1]) if text.endswith("}\n") else None

    return await until(look, "the container's environment in its log")


async def test_pods_run_with_addresses_of_their_own(node: Cluster):
    env = [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    await node.deploy("two", python(PRINT_ENV, env=env), replicas=2)
    pods = await node.ready("two", 2)
    addresses = {pod["status"]["podIP"] for pod in pods}
    assert len(addresses) == 2
    assert all(address in node.subnet for address in addresses)
    for pod in pods:
        assert (await log_json(node, pod))["POD_IP"] == pod["status"]["podIP"]
        assert (await log_json(node, pod))["HOSTNAME"] == pod["metadata"]["name"]

    async def counted() -> bool:
        deployment = await node.client.get(DEPLOYMENTS, NAMESPACE, "two")
        assert deployment is not None
        return deployment.get("status", {}).get("readyReplicas") == 2

    await until(counted, "the Deployment's status")


async def test_a_killed_container_comes_back_on_the_same_address_with_its_volumes(node: Cluster):
    code = "import os, time; open('/'.join([os.environ['D'], 'f']), 'a').write('x'); time.sleep(1000)"
    container = python(
        code, env=[{"name": "D", "value": "/data"}], volumeMounts=[{"name": "data", "mountPath": "/data"}]
    )
    await node.deploy("killed", container, pod={"volumes": [{"name": "data", "emptyDir": {}}]})
    [before] = await node.ready("killed")
    file = node.layout.pods / before["metadata"]["name"] / "volumes" / "data" / "f"

    async def written() -> bool:
        return file.is_file() and file.read_text() == "x"

    await until(written, "the first run's file")
    os.kill(pid_of(before), signal.SIGKILL)
    after = await node.settled(
        "killed", lambda pod: is_ready(pod) and container_of(pod)["restartCount"] == 1, "one restart"
    )
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert container_of(after)["lastState"]["terminated"]["exitCode"] == 137

    async def written_again() -> bool:
        return file.read_text() == "xx"

    await until(written_again, "the second run's file in the same volume")


async def test_a_crashing_container_backs_off_and_says_why(node: Cluster):
    await node.deploy("crash", python("print('no such model'); raise SystemExit(3)"))
    pod = await node.settled("crash", lambda pod: container_of(pod)["restartCount"] >= 3, "three restarts")
    waiting = container_of(pod)["state"].get("waiting") or {}
    last = container_of(pod)["lastState"]["terminated"]
    assert last["exitCode"] == 3
    assert last["message"] == "no such model"
    assert not is_ready(pod)
    if waiting:
        assert waiting["reason"] == "CrashLoopBackOff"
        assert "no such model" in waiting["message"]

    async def warned() -> bool:
        events, _ = await node.client.list(EVENTS, NAMESPACE)
        name = pod["metadata"]["name"]
        return any(e["involvedObject"]["name"] == name and e["reason"] == "BackOff" for e in events)

    await until(warned, "an event")


async def test_scaling_up_and_down(node: Cluster):
    await node.deploy("scale", python(SLEEP), replicas=1)
    [first] = await node.ready("scale")
    await node.client.merge(DEPLOYMENTS, NAMESPACE, "scale", {"spec": {"replicas": 3}})
    await node.ready("scale", 3)
    await node.client.merge(DEPLOYMENTS, NAMESPACE, "scale", {"spec": {"replicas": 0}})
    await node.ready("scale", 0)
    assert gone(pid_of(first))
    assert not (node.layout.pods / first["metadata"]["name"]).exists()


async def test_a_rolling_update_never_has_too_few_pods(node: Cluster):
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await node.deploy("roll", python(SLEEP, env=[{"name": "V", "value": "1"}]), replicas=2, strategy=strategy)
    before = {pod["metadata"]["name"] for pod in await node.ready("roll", 2)}
    await node.deploy("roll", python(SLEEP, env=[{"name": "V", "value": "2"}]), replicas=2, strategy=strategy)
    fewest, most = 99, 0

    async def replaced() -> bool:
        nonlocal fewest, most
        pods = await node.pods("roll")
        living = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        fewest, most = min(fewest, sum(map(is_ready, living))), max(most, len(living))
        names = {pod["metadata"]["name"] for pod in pods}
        return len(pods) == 2 and not names & before and all(map(is_ready, pods))

    await until(replaced, "all pods replaced")
    assert fewest >= 2
    assert most <= 3


async def test_a_broken_update_keeps_the_old_pods(node: Cluster):
    strategy = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await node.deploy("broken", python(SLEEP), replicas=2, strategy=strategy)
    before = {pod["metadata"]["name"] for pod in await node.ready("broken", 2)}
    await node.deploy(
        "broken", {"name": "main", "image": "x", "command": ["no-such-program"]}, replicas=2, strategy=strategy
    )

    def stuck(pod: Object) -> bool:
        waiting = container_of(pod)["state"].get("waiting") or {}
        return waiting.get("reason") == "RunContainerError"

    pod = await node.settled("broken", stuck, "the new pod to fail")
    assert "'no-such-program' is not on this machine" in container_of(pod)["state"]["waiting"]["message"]
    ready = {each["metadata"]["name"] for each in await node.pods("broken") if is_ready(each)}
    assert ready == before


async def test_an_image_that_is_not_here(node: Cluster):
    await node.deploy("image", {"name": "main", "image": "nvcr.io/tritonserver:23.04-py3"})
    pod = await node.settled(
        "image",
        lambda pod: "waiting" in container_of(pod)["state"] and "message" in container_of(pod)["state"]["waiting"],
        "a reason",
    )
    waiting = container_of(pod)["state"]["waiting"]
    assert waiting["reason"] == "ErrImageNeverPull"
    assert "shoal runtime build" in waiting["message"]


async def test_a_locally_built_image_runs(node: Cluster):
    directory = node.layout.images / "my-runtime"
    directory.mkdir(parents=True)
    description = {"command": ["python", "-u", "-c", PRINT_ENV], "env": {"MODE": "built"}}
    (directory / "image.json").write_text(json.dumps(description))
    await node.deploy("built", {"name": "main", "image": "example.org/team/my-runtime:v1"})
    [pod] = await node.ready("built")
    assert (await log_json(node, pod))["MODE"] == "built"


HOOK = """
import http.server, os, signal, sys
ip = os.environ['POD_IP']
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print('hook', self.path, flush=True)
        self.send_response(200); self.end_headers()
def stop(*_):
    open(os.environ['OUT'], 'a').write('term\\n'); sys.exit(0)
class S(http.server.HTTPServer):
    def process_request(self, *a):
        super().process_request(*a); open(os.environ['OUT'], 'a').write('hook\\n')
signal.signal(signal.SIGTERM, stop)
S((ip, 8090), H).serve_forever()
"""


async def test_stopping_runs_the_hook_before_sigterm(node: Cluster, tmp_path: Path):
    out = tmp_path / "order"
    env = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "OUT", "value": str(out)},
    ]
    ask = {"httpGet": {"path": "/prestop", "port": 8090}}
    server = python(HOOK, env=env, readinessProbe={"tcpSocket": {"port": 8090}})
    other = {**python(SLEEP), "name": "other", "lifecycle": {"preStop": ask}}
    await node.deploy("hook", server, other)
    [pod] = await node.ready("hook")
    out.write_text("")
    pids = [pid_of(pod), pid_of(pod, "other")]
    await node.client.delete(DEPLOYMENTS, NAMESPACE, "hook")
    await node.ready("hook", 0)
    assert out.read_text().splitlines() == ["hook", "term"]
    assert all(gone(pid) for pid in pids)


async def test_a_container_that_ignores_sigterm_is_killed_with_its_children(node: Cluster):
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)']); print(c.pid, flush=True);"
        "time.sleep(1000)"
    )
    await node.deploy("stubborn", python(code), pod={"terminationGracePeriodSeconds": 1})
    [pod] = await node.ready("stubborn")

    async def child() -> int | None:
        text = node.log(pod).strip()
        return int(text) if text else None

    grandchild = await until(child, "the child's pid")
    await node.client.delete(DEPLOYMENTS, NAMESPACE, "stubborn")
    await node.ready("stubborn", 0)
    assert gone(pid_of(pod))
    assert gone(grandchild)


async def test_readiness_follows_the_probe(node: Cluster, tmp_path: Path):
    flag = tmp_path / "well"
    probe = {"exec": {"command": ["test", "-f", str(flag)]}, "periodSeconds": 1, "failureThreshold": 1}
    await node.deploy("probe", python(SLEEP, readinessProbe=probe))
    pod = await node.settled("probe", lambda pod: "running" in container_of(pod)["state"], "running")
    assert not is_ready(pod)
    flag.touch()
    await node.ready("probe")
    flag.unlink()
    await node.settled("probe", lambda pod: not is_ready(pod), "unready again")


async def test_a_failed_liveness_probe_restarts(node: Cluster):
    probe = {"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 1}
    await node.deploy("live", python(SLEEP, livenessProbe=probe))
    pod = await node.settled("live", lambda pod: container_of(pod)["restartCount"] >= 1, "a restart")
    assert container_of(pod)["lastState"]["terminated"]["reason"] == "Unhealthy"


def secret(name: str, **values: str) -> Object:
    data = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "data": data}


async def test_secrets_are_files_and_follow_changes(node: Cluster):
    await node.client.create(SECRETS, NAMESPACE, secret("keys", s3="one", local="two"))
    await node.deploy(
        "secret",
        python(SLEEP, volumeMounts=[{"name": "keys", "mountPath": "/storage-config"}]),
        pod={"volumes": [{"name": "keys", "secret": {"secretName": "keys"}}]},
    )
    [pod] = await node.ready("secret")
    directory = node.layout.pods / pod["metadata"]["name"] / "volumes" / "keys"
    assert {path.name: path.read_text() for path in directory.iterdir()} == {"s3": "one", "local": "two"}
    assert (directory / "s3").stat().st_mode & 0o777 == 0o600
    changed = {"data": {"s3": base64.b64encode(b"three").decode(), "local": None}}
    await node.client.merge(SECRETS, NAMESPACE, "keys", changed)

    async def refreshed() -> bool:
        return {path.name: path.read_text() for path in directory.iterdir()} == {"s3": "three"}

    await until(refreshed, "the files to follow")


async def test_a_pod_waits_for_its_secret_and_starts_when_it_comes(node: Cluster):
    env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "late", "key": "token"}}}]
    await node.deploy("late", python(PRINT_ENV, env=env))
    pod = await node.settled(
        "late",
        lambda p: "waiting" in container_of(p)["state"] and "message" in container_of(p)["state"]["waiting"],
        "waiting",
    )
    assert "'late' with key 'token' not found" in container_of(pod)["state"]["waiting"]["message"]
    await node.client.create(SECRETS, NAMESPACE, secret("late", token="t0"))
    [pod] = await node.ready("late")
    assert (await log_json(node, pod))["TOKEN"] == "t0"


async def test_config_maps_and_claims_are_mounted(node: Cluster):
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "my-models-pvc", "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "alibabacloud-cnfs-nas",
            "volumeMode": "Filesystem",
        },
    }
    await node.client.create(CLAIMS, NAMESPACE, claim)

    async def bound() -> Object | None:
        found = await node.client.get(CLAIMS, NAMESPACE, "my-models-pvc")
        return found if found and (found.get("status") or {}).get("phase") == "Bound" else None

    found = await until(bound, "the claim to be bound")
    assert found["status"]["capacity"] == {"storage": "1Gi"}
    assert found["spec"]["volumeName"] == f"pvc-{found['metadata']['uid']}"
    directory = node.layout.pvcs / "my-models-pvc"

    async def made() -> bool:
        return directory.is_dir()

    await until(made, "the claim's directory")
    (directory / "model").write_text("weights")
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cm", "namespace": NAMESPACE},
        "data": {"k": "v"},
    }
    await node.client.create(CONFIG_MAPS, NAMESPACE, body)
    code = "import sys, time; [print(open(p).read(), flush=True) for p in sys.argv[1:]]; time.sleep(1000)"
    mounts = [{"name": "pvc", "mountPath": "/mnt/models"}, {"name": "cm", "mountPath": "/etc/cm"}]
    files = ["/mnt/models/model", "/etc/cm/k", "/pvc_mounts/my-models-pvc/model"]
    volumes = [
        {"name": "pvc", "persistentVolumeClaim": {"claimName": "my-models-pvc"}},
        {"name": "cm", "configMap": {"name": "cm"}},
    ]
    await node.deploy("mounts", python(code, args=files, volumeMounts=mounts), pod={"volumes": volumes})
    [pod] = await node.ready("mounts")

    async def printed() -> bool:
        return node.log(pod).split() == ["weights", "v", "weights"]

    await until(printed, "the files' contents")


async def test_a_deleted_pod_is_replaced(node: Cluster):
    await node.deploy("replace", python(SLEEP))
    [before] = await node.ready("replace")
    await node.client.delete(PODS, NAMESPACE, before["metadata"]["name"])

    async def replaced() -> bool:
        pods = await node.pods("replace")
        return len(pods) == 1 and pods[0]["metadata"]["uid"] != before["metadata"]["uid"] and is_ready(pods[0])

    await until(replaced, "another pod")
    assert gone(pid_of(before))


async def test_a_new_kubelet_takes_over_what_was_declared(api: tuple[Path, Subnet]):
    async with cluster(*api) as first:
        await first.deploy("again", python(SLEEP))
        [before] = await first.ready("again")
    assert gone(pid_of(before))
    async with cluster(*api) as second:
        after = await second.settled(
            "again", lambda pod: is_ready(pod) and container_of(pod)["restartCount"] == 1, "the pod to run again"
        )
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert after["status"]["podIP"] == before["status"]["podIP"]
        assert not gone(pid_of(after))


async def test_the_same_cause_is_one_event_and_counted(node: Cluster):
    await node.deploy("again", python("print('no such model'); raise SystemExit(3)"))
    pod = await node.settled("again", lambda pod: container_of(pod)["restartCount"] >= 3, "three restarts")

    async def counted() -> bool:
        events, _ = await node.client.list(EVENTS, NAMESPACE)
        name = pod["metadata"]["name"]
        mine = [e for e in events if e["involvedObject"]["name"] == name and e["reason"] == "BackOff"]
        assert len(mine) <= 1
        return bool(mine) and mine[0]["count"] >= 3

    await until(counted, "one event that counts")


async def test_the_end_of_the_log_is_kept_of_a_container_that_ended(node: Cluster):
    code = "import sys; print('first'); print('ValueError: no weights'); print('bye'); sys.exit(3)"
    await node.deploy("last-words", python(code))
    pod = await node.settled("last-words", lambda pod: container_of(pod)["restartCount"] >= 1, "a restart")
    assert container_of(pod)["lastState"]["terminated"]["message"] == "first\nValueError: no weights\nbye"

    async def told() -> bool:
        events, _ = await node.client.list(EVENTS, NAMESPACE)
        return any(
            e["message"] == "main ended with exit code 3: ValueError: no weights; it will be started again"
            for e in events
        )

    await until(told, "an event with the line that matters")


async def test_a_container_that_eats_memory_is_killed_and_says_so(node: Cluster):
    code = "import time; kept = [bytearray(32 << 20) for _ in range(24)]; time.sleep(1000)"
    container = python(code, resources={"limits": {"memory": "64Mi"}})
    await node.deploy("eats", container)
    pod = await node.settled("eats", lambda pod: container_of(pod)["restartCount"] >= 1, "a restart")
    last = container_of(pod)["lastState"]["terminated"]
    assert (last["reason"], last["exitCode"]) == ("OOMKilled", 137)

    async def told() -> bool:
        events, _ = await node.client.list(EVENTS, NAMESPACE)
        return any(e["reason"] == "OOMKilled" and "its limit is 64Mi; it was killed" in e["message"] for e in events)

    await until(told, "an event")


async def test_a_container_within_its_memory_is_left_alone(node: Cluster):
    code = "import time; kept = bytearray(200 << 20); time.sleep(1000)"
    await node.deploy("modest", python(code, resources={"limits": {"memory": "64Mi"}}))
    [pod] = await node.ready("modest")
    started = container_of(pod)["state"]["running"]["startedAt"]

    async def looked_at() -> bool:
        """Several looks later."""
        return time.time() > seconds_of(started) + 3

    await until(looked_at, "a few looks")
    [pod] = await node.ready("modest")
    assert container_of(pod)["restartCount"] == 0

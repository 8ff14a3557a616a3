"""From container specs to local commands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.cluster.kubelet.containers import (
    CannotStart,
    Image,
    Mount,
    PodContext,
    expand,
    image_name,
    local_command,
    rewrite,
)

VOLUMES = {"models": "/state/pods/p/volumes/models", "storage": "/state/pods/p/volumes/storage"}
POD: dict[str, Any] = {
    "metadata": {
        "name": "p-1",
        "namespace": "ns",
        "uid": "u1",
        "labels": {"app": "x"},
        "annotations": {"shoal.dev/runtime": "mlserver-1.x"},
    },
    "spec": {
        "containers": [
            {
                "name": "server",
                "resources": {"requests": {"memory": "1Gi", "cpu": "500m"}, "limits": {"memory": "2Gi"}},
            },
            {"name": "limited", "resources": {"limits": {"memory": "512Mi"}}},
        ]
    },
}
MOUNTS = [{"name": "models", "mountPath": "/models"}, {"name": "storage", "mountPath": "/storage-config"}]


def context(**changes: Any) -> PodContext:
    values: dict[str, Any] = {
        "pod": POD,
        "ip": "127.70.1.10",
        "host_ip": "127.70.1.1",
        "directory": "/state/pods/p",
        "base_env": {"PATH": "/venv/bin:/bin"},
        "find_image": {"custom": Image(["python", "serve.py"], {"MODE": "/models/x"}, "/opt/app")}.get,
        "secret": {"s": {"user": "me"}}.get,
        "config_map": {"c": {"level": "info"}}.get,
        "fixed_mounts": (Mount("/pvc_mounts", "/state/pvcs"),),
    }
    return PodContext(**(values | changes))


def run(container: dict[str, Any], **changes: Any):
    return local_command({"name": "server", "image": "", **container}, context(**changes), VOLUMES)


def env_of(entries: list[dict[str, Any]], **more: Any) -> dict[str, str]:
    env = dict(run({"command": ["x"], "volumeMounts": MOUNTS, "env": entries, **more}).env)
    del env["PATH"]
    return env


def test_literals_references_and_escapes():
    entries = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)/$(MISSING)/$$(A)"},
        {"name": "C", "value": "$(B)-$(PATH)"},
        {"name": "EMPTY"},
    ]
    assert env_of(entries) == {
        "A": "1",
        "B": "1/$(MISSING)/$(A)",
        "C": "1/$(MISSING)/$(A)-/venv/bin:/bin",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "p-1"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u1"),
        ("status.podIP", "127.70.1.10"),
        ("status.hostIP", "127.70.1.1"),
        ("metadata.labels['app']", "x"),
        ("metadata.annotations['shoal.dev/runtime']", "mlserver-1.x"),
        ("metadata.labels['absent']", ""),
    ],
)
def test_field_references(path: str, expected: str):
    assert env_of([{"name": "V", "valueFrom": {"fieldRef": {"fieldPath": path}}}]) == {"V": expected}


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ({"containerName": "server", "resource": "requests.memory"}, str(1024**3)),
        ({"resource": "requests.memory"}, str(1024**3)),
        ({"containerName": "server", "resource": "requests.memory", "divisor": "1Mi"}, "1024"),
        ({"containerName": "server", "resource": "requests.memory", "divisor": "0"}, str(1024**3)),
        ({"containerName": "server", "resource": "limits.memory"}, str(2 * 1024**3)),
        ({"containerName": "server", "resource": "limits.cpu"}, "1"),
        ({"containerName": "server", "resource": "requests.cpu", "divisor": "1m"}, "500"),
        ({"containerName": "limited", "resource": "requests.memory"}, str(512 * 1024**2)),
        ({"containerName": "limited", "resource": "requests.cpu"}, "0"),
    ],
)
def test_resource_references(reference: dict[str, str], expected: str):
    assert env_of([{"name": "V", "valueFrom": {"resourceFieldRef": reference}}]) == {"V": expected}


def test_secret_and_config_map_values():
    entries = [
        {"name": "USER_NAME", "valueFrom": {"secretKeyRef": {"name": "s", "key": "user"}}},
        {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "level"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "no", "optional": True}}},
    ]
    assert env_of(entries) == {"USER_NAME": "me", "LEVEL": "info"}
    sources = [{"secretRef": {"name": "s"}, "prefix": "S_"}, {"configMapRef": {"name": "gone", "optional": True}}]
    assert env_of([], envFrom=sources) == {"S_user": "me"}


@pytest.mark.parametrize(
    ("container", "message"),
    [
        (
            {"env": [{"name": "V", "valueFrom": {"secretKeyRef": {"name": "s", "key": "no"}}}]},
            "env V: secretKeyRef 's'",
        ),
        ({"env": [{"name": "V", "valueFrom": {"fieldRef": {"fieldPath": "spec.what"}}}]}, "'spec.what'"),
        ({"env": [{"name": "V", "valueFrom": {"resourceFieldRef": {"containerName": "no", "resource": "x"}}}]}, "'no'"),
        ({"env": [{"name": "V", "valueFrom": {"fileKeyRef": {}}}]}, "fileKeyRef"),
        ({"envFrom": [{"secretRef": {"name": "gone"}}]}, "'gone' not found"),
        ({"volumeMounts": [{"name": "nope", "mountPath": "/x"}]}, "'nope'"),
        ({"volumeMounts": [{"name": "models", "mountPath": "/x", "subPath": "../up"}]}, "'..'"),
    ],
)
def test_what_cannot_be_resolved_is_named(container: dict[str, Any], message: str):
    with pytest.raises(CannotStart) as caught:
        run({"command": ["x"], **container})
    assert message in str(caught.value)
    assert caught.value.reason == "CreateContainerConfigError"


def test_mount_paths_are_rewritten_in_env_command_args_and_workdir():
    command = run(
        {
            "command": ["serve", "/models/bin/run"],
            "args": ["--config=/storage-config/default", "/models", "/modelsX", "-x", "$(ROOT)/deep"],
            "workingDir": "/models/work",
            "env": [{"name": "ROOT", "value": "/models/_mlserver"}, {"name": "PVC", "value": "/pvc_mounts"}],
            "volumeMounts": MOUNTS,
        }
    )
    assert command.argv == (
        "serve",
        "/state/pods/p/volumes/models/bin/run",
        "--config=/state/pods/p/volumes/storage/default",
        "/state/pods/p/volumes/models",
        "/modelsX",
        "-x",
        "/state/pods/p/volumes/models/_mlserver/deep",
    )
    assert command.cwd == "/state/pods/p/volumes/models/work"
    assert command.env["PVC"] == "/state/pvcs"


def test_the_closest_mount_wins_and_sub_paths_are_inside():
    mounts = [
        {"name": "models", "mountPath": "/data"},
        {"name": "storage", "mountPath": "/data/keys", "subPath": "a/b"},
        {"name": "models", "mountPath": "/pvc_mounts"},
    ]
    command = run({"command": ["x", "/data/f", "/data/keys/f", "/pvc_mounts/f"], "volumeMounts": mounts})
    assert command.argv[1:] == (
        "/state/pods/p/volumes/models/f",
        "/state/pods/p/volumes/storage/a/b/f",
        "/state/pods/p/volumes/models/f",
    )


def test_a_local_image_brings_command_env_and_workdir():
    command = run(
        {"image": "registry.example/team/custom:v1", "volumeMounts": MOUNTS, "env": [{"name": "X", "value": "1"}]}
    )
    assert command.argv == ("python", "serve.py")
    assert command.cwd == "/opt/app"
    assert command.env["MODE"] == "/state/pods/p/volumes/models/x"
    assert command.env["X"] == "1"


def test_the_mlserver_image_of_any_registry_runs_shoals_build():
    env = [{"name": "MLSERVER_MODELS_DIR", "value": "/models/_mlserver_models/"}]
    command = run({"image": "seldonio/mlserver:1.7.1", "volumeMounts": MOUNTS, "env": env})
    assert command.argv == (
        "python",
        "-m",
        "shoal_runtime.mlserver",
        "start",
        "/state/pods/p/volumes/models/_mlserver_models/",
    )
    assert command.cwd == "/state/pods/p"


def test_args_replace_what_the_image_runs():
    assert run({"image": "mlserver", "args": ["mlserver", "start", "."]}).argv == ("mlserver", "start", ".")


def test_an_image_that_is_not_here_says_what_to_do():
    with pytest.raises(CannotStart) as caught:
        run({"image": "nvcr.io/nvidia/tritonserver:23.04-py3"})
    assert caught.value.reason == "ErrImageNeverPull"
    assert str(caught.value) == (
        "image 'nvcr.io/nvidia/tritonserver:23.04-py3' is not on this machine and the embedded cluster cannot pull "
        "images: build it with `shoal runtime build --tag tritonserver`, "
        "or set the container's command to a program of this machine"
    )


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("mlserver", "mlserver"),
        ("seldonio/mlserver:1.3.2", "mlserver"),
        ("localhost:5000/a/b:v1", "b"),
        ("x/y@sha256:abc", "y"),
        ("localhost:5000/a", "a"),
        ("", ""),
    ],
)
def test_image_names(reference: str, name: str):
    assert image_name(reference) == name


@given(st.text())
def test_values_without_mounts_and_references_stay(value: str):
    assert rewrite(value, [Mount("/no-such-mount-path", "/x")]) == value or "/no-such-mount-path" in value
    if "$" not in value:
        assert expand(value, {"A": "1"}) == value


@given(st.text(alphabet="ab/.$()-="))
def test_only_the_beginning_of_a_value_is_rewritten(rest: str):
    assert rewrite("/models/" + rest, [Mount("/models", "/d")]) == "/d/" + rest

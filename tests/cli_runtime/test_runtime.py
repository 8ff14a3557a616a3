"""`shoal runtime`, run as a user runs it, up to a request answered by the image it makes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from shoal.cli.main import run
from shoal.cli.runtime.local_images import environment, register


@pytest.fixture
def folder(tmp_path, capsys):
    assert run(["runtime", "init", str(tmp_path / "my-format")]) == 0
    capsys.readouterr()
    return tmp_path / "my-format"


@pytest.fixture
def no_docker(monkeypatch, tmp_path):
    """A machine without Docker: nothing but Python's own programs on the path."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_init_writes_what_fits_together(folder):
    runtime = yaml.safe_load((folder / "serving-runtime.yaml").read_text())
    isvc = yaml.safe_load((folder / "inference-service.yaml").read_text())
    settings = json.loads((folder / "model-settings.json").read_text())
    assert runtime["metadata"]["name"] == "my-format"
    assert runtime["spec"]["supportedModelFormats"][0]["name"] == "my-format"
    assert isvc["spec"]["predictor"]["model"]["modelFormat"]["name"] == "my-format"
    assert (folder / isvc["spec"]["predictor"]["model"]["storage"]["path"]).name == "model.json"
    module, _, name = settings["implementation"].rpartition(".")
    assert f"class {name}(MLModel)" in (folder / f"{module}.py").read_text()
    assert not [path for path in folder.rglob("*") if path.is_file() and "{{" in path.read_text()]


def test_init_touches_nothing_that_exists(folder, capsys):
    (folder / "README.md").write_text("mine")
    assert run(["runtime", "init", str(folder)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (folder / "README.md").read_text() == "mine"


@pytest.mark.parametrize("name", ["Capital", "with space", "-x", "9lives", "x" * 54])
def test_init_refuses_names_that_kubernetes_or_python_would(tmp_path, name, capsys):
    assert run(["runtime", "init", str(tmp_path / "f"), "--name", name]) == 2
    assert "--name" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_a_template_must_not_reach_a_shell(tmp_path, capsys):
    assert run(["runtime", "init", str(tmp_path / "f"), "--template", "x; touch y"]) == 2
    assert "plain URL or path" in capsys.readouterr().err


def test_settings_files_become_defaults(tmp_path):
    (tmp_path / "settings.json").write_text('{"debug": false, "http_port": 9}')
    (tmp_path / "model-settings.json").write_text(
        '{"name": "n", "implementation": "a.B", "max_batch_size": 4, "parameters": {"uri": "./x", "extra": {"k": [1]}}}'
    )
    env = environment(tmp_path)
    assert env["MLSERVER_DEBUG"] == "false"
    assert env["MLSERVER_HTTP_PORT"] == "9"
    assert env["MLSERVER_MODEL_IMPLEMENTATION"] == "a.B"
    assert env["MLSERVER_MODEL_MAX_BATCH_SIZE"] == "4"
    assert env["MLSERVER_MODEL_EXTRA"] == '{"k": [1]}'
    assert env["MLSERVER_LOAD_MODELS_AT_STARTUP"] == "false"
    assert not {"MLSERVER_MODEL_NAME", "MLSERVER_MODEL_URI"} & set(env)


@pytest.mark.parametrize("content", ["[1]", "{", '{"parameters": 1}'])
def test_a_broken_settings_file_is_named_and_nothing_is_registered(tmp_path, content, no_docker, capsys):
    code = tmp_path / "code"
    code.mkdir()
    (code / "model-settings.json").write_text(content)
    assert run(["runtime", "build", str(code), "-t", "x", "--state-dir", str(tmp_path / "state")]) == 2
    assert "model-settings.json" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("tag", ["", "UPPER", "a b", "x;y", "../x", "$(x)"])
def test_a_tag_that_is_no_image_name_is_refused(folder, tag, tmp_path, capsys):
    assert run(["runtime", "build", str(folder), "-t", tag, "--state-dir", str(tmp_path / "state")]) == 2
    assert "--tag" in capsys.readouterr().err


def test_building_again_replaces_the_image_and_keeps_the_one_pods_run(folder, tmp_path):
    images = tmp_path / "images"
    first = json.loads(register(images, "x", folder).read_text())["workdir"]
    (folder / "new.py").write_text("")
    second = json.loads(register(images, "x", folder).read_text())["workdir"]
    assert Path(second, "new.py").exists()
    assert Path(first).exists()
    register(images, "x", folder)
    assert not Path(first).exists()
    assert Path(second).exists()


@pytest.mark.server
def test_dockerfile_has_mlservers_steps_and_meshs_environment(folder, capsys):
    assert run(["runtime", "dockerfile", str(folder)]) == 0
    lines = (folder / "Dockerfile").read_text().splitlines()
    assert any(line.startswith("FROM ") and "mlserver" in line for line in lines)
    assert "ENV MLSERVER_MODELS_DIR=/models/_mlserver_models" in lines
    assert "ENV MLSERVER_LOAD_MODELS_AT_STARTUP=false" in lines


@pytest.mark.server
def test_the_image_serves_the_example(folder, tmp_path, no_docker, capsys):
    state = tmp_path / "state"
    tag = "registry.example/team/my-format:1.0"
    assert run(["runtime", "build", str(folder), "-t", tag, "--state-dir", str(state)]) == 0
    assert "no Docker engine answers" in capsys.readouterr().out
    image = json.loads((state / "images" / "my-format" / "image.json").read_text())
    models = tmp_path / "models"
    model = models / "m1"
    model.mkdir(parents=True)
    artifact = folder / "example" / "model.json"
    (model / "model-settings.json").write_text(json.dumps({"name": "m1", "parameters": {"uri": str(artifact)}}))
    grpc, rest, metrics = free_ports(3)
    env = {
        **os.environ,
        **image["env"],
        "MLSERVER_MODELS_DIR": str(models),
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_GRPC_PORT": str(grpc),
        "MLSERVER_HTTP_PORT": str(rest),
        "MLSERVER_METRICS_PORT": str(metrics),
        "MLSERVER_METRICS_DIR": str(tmp_path),
    }
    command = [sys.executable, *image["command"][1:-1], str(models)]
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(command, cwd=image["workdir"], env=env, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{rest}", timeout=30) as client:
            wait_until_live(client, process, tmp_path / "log")
            assert client.post("/v2/repository/models/m1/load").status_code == 200
            rows = {"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [1, 2, 3, 4]}
            answer = client.post("/v2/models/m1/infer", json={"inputs": [rows]}).json()
            wrong = client.post("/v2/models/m1/infer", json={"inputs": [rows | {"shape": [4, 1]}]})
    finally:
        process.terminate()
        process.wait(30)
        log.close()
    assert answer["outputs"][0]["data"] == [5.0, 8.5, 11.0, 7.5]
    assert wrong.status_code == 400
    assert "1 columns; the model has 2" in wrong.text


def wait_until_live(client, process, log):
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if client.get("/v2/health/live").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)

"""Pods for the adapter's tests: a real MLServer and a real adapter, processes on free loopback ports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc.aio

from shoal.oip.datatypes import DATATYPES
from shoal_protos import inference
from shoal_protos.adapter import adapter_pb2, adapter_pb2_grpc
from shoal_protos.mmesh import model_runtime_pb2 as runtime_pb2
from shoal_protos.mmesh import model_runtime_pb2_grpc as runtime_pb2_grpc
from waiting import until

HOST = "127.0.0.1"
START_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """A program whose end is ours to see to."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path, cwd: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command,
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def running(self) -> bool:
        return self._popen.poll() is None

    def kill(self) -> None:
        if self.running():
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def stop(self) -> int:
        """Asks it to stop and returns its exit status."""
        if self.running():
            self._popen.terminate()
        try:
            return self._popen.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop: {self.log[-2000:]}") from None


def clean_environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLSERVER_", "SHOAL_"))}
    venv = Path(sys.executable).parent
    return {**kept, "PATH": f"{venv}:{kept.get('PATH', '')}", "PYTHONWARNINGS": "ignore", **extra}


def model_key(model_type: Any = "sklearn", claim: str = "claim", **params: str) -> str:
    storage = {"type": "pvc", "name": claim, **params}
    return json.dumps({"storage_params": storage, "model_type": model_type})


class Pod:
    """Folders, ports, processes and clients of one pod. Models are taken from the folder `claim`."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.root = folder / "models"
        self.claim = folder / "claims" / "claim"
        for path in (self.root, self.claim, folder / "storage-config"):
            path.mkdir(parents=True, exist_ok=True)
        self.ports = {name: free_port() for name in ("grpc", "http", "metrics", "adapter", "prestop")}
        self.environment = environment
        self.server: Process | None = None
        self.adapter: Process | None = None
        self.stock = False
        self._channels: list[Any] = []

    def start_server(self, *, stock: bool = False) -> Process:
        folder = str(self.root / "_mlserver_models")
        self.stock = stock
        program = ["mlserver"] if stock else [sys.executable, "-m", "shoal_runtime.mlserver"]
        environment = clean_environment(
            MLSERVER_HOST=HOST,
            MLSERVER_GRPC_PORT=str(self.ports["grpc"]),
            MLSERVER_HTTP_PORT=str(self.ports["http"]),
            MLSERVER_METRICS_PORT=str(self.ports["metrics"]),
            MLSERVER_LOAD_MODELS_AT_STARTUP="false",
            MLSERVER_PARALLEL_WORKERS="0",
            MLSERVER_DEBUG="false",
            MLSERVER_GRPC_MAX_MESSAGE_LENGTH="-1",
            **self.environment,
        )
        self.server = Process([*program, "start", folder], environment, self.folder / "server.log", self.folder)
        return self.server

    def start_adapter(self, kind: str = "mlserver", **extra: str) -> Process:
        own = {
            "POD_IP": HOST,
            "ADAPTER_PORT": str(self.ports["adapter"]),
            "PORT": str(self.ports["adapter"]),
            "RUNTIME_PORT": str(self.ports["grpc"]),
            "MODEL_SERVER_ENDPOINT": f"port:{self.ports['grpc']}",
            "CONTAINER_MEM_REQ_BYTES": str(1024**3),
            "MEM_BUFFER_BYTES": str(128 * 1024**2),
            "ROOT_MODEL_DIR": str(self.root),
            "STORAGE_CONFIG_DIR": str(self.folder / "storage-config"),
            "PVC_MOUNTS_DIR": str(self.folder / "claims"),
            "PRESTOP_PORT": str(self.ports["prestop"]),
            "LOADING_CONCURRENCY": "4",
        }
        environment = clean_environment(**{**own, **self.environment, **extra})
        command = [sys.executable, "-m", "shoal_runtime", kind]
        self.adapter = Process(command, environment, self.folder / "adapter.log", self.folder)
        return self.adapter

    def _channel(self, port: str) -> Any:
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_reconnect_backoff_ms", 200),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
        ]
        channel = grpc.aio.insecure_channel(f"{HOST}:{self.ports[port]}", options=options)
        self._channels.append(channel)
        return channel

    def connect(self) -> None:
        """Makes clients on the running event loop."""
        management, data = self._channel("adapter"), self._channel("grpc")
        self.runtime = runtime_pb2_grpc.ModelRuntimeStub(management)
        self.watch = adapter_pb2_grpc.AdapterStub(management)
        self._data = data

    def method(self, name: str) -> Any:
        return self._data.unary_unary(
            inference.method_path(name),
            request_serializer=getattr(inference, f"{name}Request").SerializeToString,
            response_deserializer=getattr(inference, f"{name}Response").FromString,
        )

    def raw(self, name: str, *, streaming: bool = False) -> Any:
        """A method of the server whose messages are bytes, sound or not."""
        kind = self._data.stream_stream if streaming else self._data.unary_unary
        return kind(inference.method_path(name))

    async def state(self) -> Any:
        """The adapter's state now."""
        call = self.watch.watchState(adapter_pb2.WatchStateRequest(), wait_for_ready=True)
        try:
            return await call.read()
        finally:
            call.cancel()

    async def loaded(self) -> set[str]:
        return {model.model_id for model in (await self.state()).models}

    async def ready(self) -> Any:
        async def check() -> Any:
            try:
                state = await self.state()
            except grpc.aio.AioRpcError:
                return None
            return state if state.status == adapter_pb2.State.READY else None

        try:
            return await until(check)
        except AssertionError:
            logs = [process.log[-3000:] for process in (self.server, self.adapter) if process]
            raise AssertionError("\n".join(["the pod does not become ready", *logs])) from None

    def load(self, model_id: str, path: str, key: str | None = None, **call: Any) -> Any:
        request = runtime_pb2.LoadModelRequest(
            modelId=model_id, modelType="mt:sklearn", modelPath=path, modelKey=model_key() if key is None else key
        )
        return self.runtime.loadModel(request, wait_for_ready=True, **call)

    def prefetch(self, model_id: str, path: str, key: str) -> Any:
        """A call that answers once the files are there, and keeps them while it lasts."""
        return self.watch.prefetch(runtime_pb2.LoadModelRequest(modelId=model_id, modelPath=path, modelKey=key))

    def unload(self, model_id: str) -> Any:
        return self.runtime.unloadModel(runtime_pb2.UnloadModelRequest(modelId=model_id), wait_for_ready=True)

    async def infer(self, model_id: str, rows: list[list[float]], name: str = "x", datatype: str = "FP32") -> list[Any]:
        """The first output's values."""
        request = inference.ModelInferRequest(model_name=model_id)
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[len(rows), len(rows[0])])
        flat = [value for row in rows for value in row]
        getattr(tensor.contents, DATATYPES[datatype].contents).extend(flat)
        answer = await self.method("ModelInfer")(request)
        assert answer.model_name == model_id
        contents = answer.outputs[0].contents
        return next(list(values) for _, values in contents.ListFields())

    async def score(self, model_id: str, texts: list[bytes]) -> list[float]:
        """Asks the example's custom runtime."""
        request = inference.ModelInferRequest(model_name=model_id)
        tensor = request.inputs.add(name="texts", datatype="BYTES", shape=[len(texts)])
        tensor.contents.bytes_contents.extend(texts)
        answer = await self.method("ModelInfer")(request)
        return list(answer.outputs[0].contents.fp64_contents)

    async def disconnect(self) -> None:
        for channel in self._channels:
            await channel.close()
        self._channels.clear()

    def stop(self) -> None:
        for process in (self.adapter, self.server):
            if process is not None:
                process.kill()


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    """The status and message a call fails with."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError(f"answered {answer!r}")


SLOW_RUNTIME = '''
import asyncio
import os
import time

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Slow(MLModel):
    """Takes its time: `extra` holds seconds to sleep or to block while loading, and to predict; `mb` to hold."""

    load_off_loop = os.path.exists(os.path.join(os.path.dirname(__file__), "off-loop"))

    async def load(self):
        extra = self.settings.parameters.extra or {}
        self._extra = extra
        self._blob = np.ones(int(extra.get("mb", 0)) * 131072)
        await asyncio.sleep(float(extra.get("sleep", 0)))
        time.sleep(float(extra.get("block", 0)))
        if extra.get("fail"):
            raise RuntimeError("this model is broken on purpose")
        return True

    async def predict(self, payload):
        await asyncio.sleep(float(self._extra.get("predict", 0)))
        assert self._blob is not None
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("o", np.ones(1))])

    async def unload(self):
        self._blob = None
        return True
'''


def slow_model(folder: Path, *, off_loop: bool = False, **extra: Any) -> None:
    """Writes a model folder of the class above."""
    folder.mkdir(parents=True)
    (folder / "slow.py").write_text(SLOW_RUNTIME)
    if off_loop:
        (folder / "off-loop").touch()
    settings = {"implementation": "slow.Slow", "parameters": {"extra": extra}}
    (folder / "model-settings.json").write_text(json.dumps(settings))

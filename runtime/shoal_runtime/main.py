"""The `shoal-adapter` command: reads settings, builds one adapter, serves it, and stops in order on SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Final, cast

import grpc.aio

from shoal_protos.adapter import adapter_pb2_grpc
from shoal_protos.mmesh import model_runtime_pb2_grpc as runtime_pb2_grpc
from shoal_runtime.adapter import Adapter
from shoal_runtime.drivers.base import Driver
from shoal_runtime.drivers.forward import ForwardDriver
from shoal_runtime.endpoints import local_target
from shoal_runtime.memory import SizeBook
from shoal_runtime.pressure import cpu_pressure
from shoal_runtime.prestop import HookApp, HookServer
from shoal_runtime.scales import Scales
from shoal_runtime.servers import formats, servers
from shoal_runtime.service import AdapterService, Limits, ModelRuntime
from shoal_runtime.settings import AdapterSettings, SettingsError, read_settings
from shoal_runtime.storage import ArtifactStore, StorageSettings

log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 5.0
"""How long calls under way may take to end after SIGTERM."""
WEIGH_SECONDS: Final = 5.0
MAX_RPCS: Final = 8192

_HELP: Final = """\
Runs beside a model server in a pod: fetches models from storage, has the server load and unload them, and tells the
mesh over gRPC (mmesh.ModelRuntime, shoal.adapter.v1.Adapter) what is loaded and how much memory it takes.

kinds of model server:
  {servers}
  puller     a server that implements mmesh.ModelRuntime itself at MODEL_SERVER_ENDPOINT; models are fetched for it
"""
_ENVIRONMENT: Final = """\
environment (names as in ModelMesh Serving):
  POD_IP                   address to listen on, and where the model server is (127.0.0.1)
  ADAPTER_PORT             port to listen on: {names} (8085);  PORT: puller (8086)
  RUNTIME_PORT             gRPC port of the model server (8001)
  MODEL_SERVER_ENDPOINT    puller: port:N or unix:PATH (port:8085)
  CONTAINER_MEM_REQ_BYTES  memory request of the model server's container; required with {names}
  MEM_BUFFER_BYTES         part of it models may not use (268435456)
  LOADING_CONCURRENCY      models loaded at once (1);  LOADTIME_TIMEOUT: milliseconds for one load (30000)
  LIMIT_PER_MODEL_CONCURRENCY  requests at once for a model, for a mesh that bounds them (0: no limit)
  DEFAULT_MODELSIZE        bytes counted for an unknown model (1000000)
  MODELSIZE_MULTIPLIER     memory over size on disk for every format (unset: measured per format)
  ROOT_MODEL_DIR           where models are put (/models)
  STORAGE_CONFIG_DIR       one file per storage (/storage-config), PVC_MOUNTS_DIR: one folder per claim (/pvc_mounts)
  MODEL_CACHE_DIR          downloads kept for the next load (ROOT_MODEL_DIR/_cache), MODEL_CACHE_BYTES (2147483648)
  LOAD_BLOCKS_SECONDS      a server that answers nothing for so long while it loads is ended, and its loads fail (20)
  HANG_SECONDS             the same whatever it does (120)
  RECYCLE_MAX_SECONDS      longest a server goes on that cannot be freed of a model, until it is started anew (80)
  PRESTOP_PORT             HTTP port of /prestop, /readyz and /healthz (unset: none), PRESTOP_MAX_SECONDS (80)
  ALLOW_HUB_MODELS         true lets Hugging Face models name a repository of the hub (false)
  RUNTIME_VERSION          version told to the mesh (unset: the model server's own)

example, by hand:
  CONTAINER_MEM_REQ_BYTES=1073741824 ROOT_MODEL_DIR=/tmp/models RUNTIME_PORT=8001 shoal-adapter mlserver
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the adapter until SIGTERM or SIGINT. Returns the exit status: 2 for settings that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="shoal-adapter",
        description=_HELP.format(
            servers="\n  ".join(f"{name:<10} {server.about}" for name, server in servers().items())
        ),
        epilog=_ENVIRONMENT.format(names=" or ".join(servers())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=(*servers(), "puller"), help="what serves the models")
    kind = parser.parse_args(arguments).kind
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = read_settings()
        driver_settings_complete(kind, settings)
    except SettingsError as error:
        print(f"shoal-adapter: these environment variables cannot be used:\n{error}", file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(kind, settings))
    except OSError as error:
        print(f"shoal-adapter: {error}", file=sys.stderr)
        return 1
    return 0


def driver_settings_complete(kind: str, settings: AdapterSettings) -> None:
    """Checks what only some kinds need.

    Raises:
        SettingsError: something is missing.
    """
    if kind in servers() and settings.memory_bytes is None:
        raise SettingsError("CONTAINER_MEM_REQ_BYTES is not set: give the container's memory request in bytes")


def make_driver(kind: str, settings: AdapterSettings) -> Driver:
    """The driver of a kind of model server."""
    if kind == "puller":
        return ForwardDriver(local_target(settings.model_server_endpoint, settings.pod_ip))
    module, _, function = servers()[kind].driver.partition(":")
    return cast("Driver", getattr(importlib.import_module(module), function)(settings))


def make_store(settings: AdapterSettings) -> ArtifactStore:
    """Storage in the directories the settings name."""
    return ArtifactStore(
        StorageSettings(
            root_dir=settings.root_dir,
            config_dir=settings.storage_config_dir,
            pvc_dir=settings.pvc_dir,
            cache_dir=settings.cache_dir,
            cache_bytes=settings.cache_bytes,
        )
    )


async def serve(kind: str, settings: AdapterSettings) -> None:
    """Serves one adapter until a signal asks to stop.

    Raises:
        OSError: a port cannot be listened on, or a directory not be used.
    """
    port = settings.puller_port if kind == "puller" else settings.port
    for needed in (port, settings.prestop_port):
        _require_free(settings.pod_ip, needed)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    driver = make_driver(kind, settings)
    known = servers()[kind].formats if kind in servers() else formats()
    scales = Scales(SizeBook(settings.default_model_bytes, known, settings.size_multiplier))
    adapter = Adapter(settings, driver, make_store(settings), scales)
    limits = Limits(settings, adapter, driver)
    server = _listen(f"{settings.pod_ip}:{port}", settings, adapter, limits)
    await server.start()
    log.info("%s adapter listens on %s:%d", kind, settings.pod_ip, port)
    async with asyncio.TaskGroup() as tasks:
        background = [tasks.create_task(adapter.run()), tasks.create_task(_weigh(adapter))]
        hooks = None
        if settings.prestop_port is not None:
            hooks = HookServer(HookApp(adapter, settings.prestop_seconds), settings.pod_ip, settings.prestop_port)
            background.append(tasks.create_task(hooks.serve()))
        await stop.wait()
        log.info("stopping")
        if hooks is not None:
            hooks.should_exit = True
        await server.stop(GRACE_SECONDS)
        for task in background[:2]:
            task.cancel()
        await adapter.close()


def _require_free(host: str, port: int | None) -> None:
    """Looks before a server is made: one that was made and never served makes noise when it goes.

    Raises:
        OSError: the port cannot be listened on.
    """
    if port is None:
        return
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise OSError(f"cannot listen on {host}:{port}; does another program? ({error.strerror})") from None


def _listen(address: str, settings: AdapterSettings, adapter: Adapter, limits: Limits) -> grpc.aio.Server:
    options = [("grpc.so_reuseport", 0), ("grpc.keepalive_permit_without_calls", 1)]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_RPCS)
    runtime_pb2_grpc.add_ModelRuntimeServicer_to_server(ModelRuntime(settings, adapter, limits), server)  # type: ignore[no-untyped-call]
    adapter_pb2_grpc.add_AdapterServicer_to_server(AdapterService(adapter, limits), server)  # type: ignore[no-untyped-call]
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}; is another adapter running there? ({error})") from None
    return server


async def _weigh(adapter: Adapter) -> None:
    """Keeps what is told of memory and processors up to date, now and then."""
    while True:
        await adapter.weigh()
        adapter.board.set(cpu_pressure=cpu_pressure())
        await asyncio.sleep(WEIGH_SECONDS)

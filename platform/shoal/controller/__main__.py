"""The control-plane process: controller and mesh on one event loop. Flags: `python -m shoal.controller --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from shoal.controller.main import run
from shoal.controller.settings import ControllerSettings, HelperPorts
from shoal.mesh.serve.process import MeshProcess
from shoal.mesh.serve.settings import MeshSettings, TlsFiles
from shoal.registry.protocol import FencedError, RegistryError


def parser() -> argparse.ArgumentParser:
    """The command line; defaults are those of the settings."""
    defaults = MeshSettings()
    flags = argparse.ArgumentParser(prog="python -m shoal.controller", description=__doc__)
    flags.add_argument("--kubeconfig", type=Path, help="how to reach the Kubernetes API; default: from within a pod")
    flags.add_argument("--namespace", default="modelmesh-serving", help="the namespace to serve (%(default)s)")
    flags.add_argument("--registry", default=defaults.registry, help="durable records: sqlite:PATH (%(default)s)")
    flags.add_argument("--host", default=defaults.host, help="address to listen on (%(default)s)")
    for port in ("xds", "activator-grpc", "activator-http", "management", "admin"):
        default = getattr(defaults, port.replace("-", "_") + "_port")
        flags.add_argument(f"--{port}-port", type=int, default=default, help="(%(default)s)")
    helpers = HelperPorts()
    for port, number in asdict(helpers).items():
        flags.add_argument(f"--pod-{port}-port", type=int, default=number, help="in every runtime pod (%(default)s)")
    flags.add_argument(
        "--max-message-bytes", type=int, default=defaults.max_message_bytes, help="largest request (%(default)s)"
    )
    flags.add_argument("--embedded", action="store_true", help="on an embedded cluster: claims are in every pod")
    flags.add_argument(
        "--claims",
        type=Path,
        help="folder with one folder a PersistentVolumeClaim; default with --embedded: pvcs beside the kubeconfig",
    )
    flags.add_argument("--metrics-port", type=int, help="port for /metrics alone; default: at the admin port only")
    flags.add_argument("--metrics-certificate", type=Path, help="PEM; with --metrics-key: serve metrics over TLS")
    flags.add_argument("--metrics-key", type=Path, help="PEM")
    flags.add_argument("--per-model-metrics", action="store_true", help="label metrics with model names")
    flags.add_argument("--check-invariants", action="store_true", help="verify every decision and log what is broken")
    flags.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return flags


class JsonLines(logging.Formatter):
    """One JSON object a line, for machines; still readable by people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{stamp}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def log_to_stderr(level: str) -> None:
    """Structured logs of this process."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "uvicorn", "kubernetes", "urllib3"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))


async def serve(flags: argparse.Namespace) -> None:
    """Run until told to stop by SIGTERM or SIGINT. Raises OSError or RegistryError when it cannot start."""
    settings = MeshSettings(
        registry=flags.registry,
        host=flags.host,
        xds_port=flags.xds_port,
        activator_grpc_port=flags.activator_grpc_port,
        activator_http_port=flags.activator_http_port,
        management_port=flags.management_port,
        admin_port=flags.admin_port,
        max_message_bytes=flags.max_message_bytes,
        metrics_port=flags.metrics_port,
        metrics_tls=TlsFiles(flags.metrics_certificate, flags.metrics_key) if flags.metrics_certificate else None,
        per_model_metrics=flags.per_model_metrics,
    )
    controller = ControllerSettings(
        namespace=flags.namespace,
        kubeconfig=flags.kubeconfig,
        admin_address=f"http://{flags.host}:{flags.admin_port}" if flags.embedded else "",
        admin_port=flags.admin_port,
        helper_ports=HelperPorts(flags.pod_prestop_port, flags.pod_puller_port, flags.pod_metrics_port),
        claims_always_mounted=flags.embedded,
        claims=flags.claims or (flags.kubeconfig.parent / "pvcs" if flags.embedded and flags.kubeconfig else None),
        sole_mesh=flags.embedded,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with MeshProcess(settings, check_invariants=flags.check_invariants) as mesh:
        control = asyncio.create_task(run(controller, mesh))
        tasks = [control, asyncio.create_task(mesh.failed()), asyncio.create_task(stop.wait())]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for task in done:
            await task  # raises what went wrong; whoever watches the process starts it anew


def main() -> None:
    """Entry point."""
    flags = parser().parse_args()
    log_to_stderr(flags.log_level)
    try:
        asyncio.run(serve(flags))
    except FencedError as error:
        logging.getLogger("shoal").error("ended: %s", error)  # noqa: TRY400 - the message says it all
        sys.exit(1)
    except (OSError, RegistryError) as error:
        logging.getLogger("shoal").error("cannot start: %s", error)  # noqa: TRY400 - the message says it all
        sys.exit(1)


if __name__ == "__main__":
    main()

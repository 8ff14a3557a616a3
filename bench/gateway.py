"""The gateway against the model server itself and against a Python proxy, with few and with many routed models."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from bench.processes import HOST, Load, best, free_port, h2load, port_open, resident_kib, running
from bench.rows import Row, at_least, at_most, measures
from shoal.core.types import RouteKey
from shoal.gateway.api import GatewayCallbacks, Upstream
from shoal.gateway.bootstrap import command, write_bootstrap
from shoal.gateway.control import GatewayControl
from shoal.gateway.settings import Address, GatewaySettings
from shoal_protos import inference

_PATH = inference.method_path("ModelInfer")
_MODEL = "simple-string-7"
_CHECKED = "checked"
_ROUTED = (1, 1_000, 20_000)
_QUICK = (1, 20_000)


def _revision(name: str) -> str:
    return f"{name}__isvc-3c10c62d34"


def _frame(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _request() -> bytes:
    """About 300 bytes, as the digits example of ModelMesh is."""
    request = inference.ModelInferRequest(model_name=_MODEL)
    tensor = request.inputs.add(name="predict", datatype="FP32", shape=[1, 64])
    tensor.contents.fp32_contents.extend(float(i % 16) for i in range(64))
    return request.SerializeToString()


def _answer() -> bytes:
    answer = inference.ModelInferResponse(model_name=_revision(_MODEL))
    tensor = answer.outputs.add(name="predict", datatype="INT64", shape=[1, 1])
    tensor.contents.int64_contents.append(8)
    return answer.SerializeToString()


@dataclass
class _Bench:
    """What runs for the length of the measurement."""

    folder: Path
    body: Path
    upstream_port: int
    upstream_pid: int
    checked_port: int


@contextlib.asynccontextmanager
async def _fast_upstream(folder: Path) -> AsyncIterator[tuple[int, int]]:
    """A server that is faster than anything before it: nghttpd with one fixed answer."""
    program = shutil.which("nghttpd")
    if program is None:
        raise RuntimeError("nghttpd is missing; on Debian: apt-get install nghttp2-server")
    file = folder / "htdocs" / _PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(_frame(_answer()))
    port = free_port()
    options = ("--no-tls", "--address", HOST, "--htdocs", str(folder / "htdocs"), "--trailer", "grpc-status: 0")
    async with running(program, *options, str(port), port=port) as pid:
        yield port, pid


class _Echo(grpc.GenericRpcHandler):
    """A model server whose answers can be checked: the request's id and the revision it was asked for."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        async def infer(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
            asked = inference.ModelInferRequest.FromString(request)
            return inference.ModelInferResponse(model_name=asked.model_name, id=asked.id).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(infer) if details.method == _PATH else None


@dataclass
class _Checker:
    """Sends a request every few milliseconds beside the load, and checks every answer."""

    port: int
    sent: int = 0
    wrong: list[str] = field(default_factory=list)

    async def run(self) -> None:
        async with grpc.aio.insecure_channel(f"{HOST}:{self.port}") as channel:
            call = channel.unary_unary(_PATH)
            while True:
                self.sent += 1
                request = inference.ModelInferRequest(model_name=_CHECKED, id=str(self.sent))
                try:
                    answer = inference.ModelInferResponse.FromString(
                        await call(request.SerializeToString(), timeout=10)
                    )
                    if (answer.model_name, answer.id) != (_revision(_CHECKED), request.id):
                        self.wrong.append(str(answer))
                except grpc.aio.AioRpcError as error:
                    self.wrong.append(str(error.details()))
                await asyncio.sleep(0.005)


@dataclass(frozen=True, slots=True)
class _Measured:
    load: Load
    resident_kib: int
    checked: int
    wrong: int


def _settings() -> GatewaySettings:
    ports = [Address(host=HOST, port=free_port()) for _ in range(6)]
    names = ("grpc", "rest", "xds", "activator_grpc", "activator_http", "management")
    return GatewaySettings.model_validate(dict(zip(names, ports, strict=True)))


async def _through_gateway(bench: _Bench, routed: int, requests: int) -> _Measured:
    settings = _settings()
    ready = asyncio.Event()
    control = GatewayControl(settings, GatewayCallbacks(lambda _: ready.set(), lambda *_: None))

    def upstream(name: str, port: int) -> tuple[Upstream, ...]:
        return (Upstream(_revision(name), HOST, port, None),)

    names = [_MODEL, *(f"other-string-{i}" for i in range(routed - 1))]
    changes = {RouteKey(name): upstream(name, bench.upstream_port) for name in names}
    changes[RouteKey(_CHECKED)] = upstream(_CHECKED, bench.checked_port)
    control.publish(1, changes)
    await asyncio.sleep(0)  # acknowledged at once, for nobody is connected
    ready.clear()
    await control.start()
    path = bench.folder / f"envoy-{routed}.json"
    write_bootstrap(settings, path)
    try:
        async with running(*command(settings, path), port=settings.grpc.port) as pid:
            await _all_routed(control, pid)
            resident = resident_kib(pid)
            checker = _Checker(settings.grpc.port)
            checking = asyncio.ensure_future(checker.run())
            await h2load(settings.grpc.port, _PATH, bench.body, requests // 10, pid)
            rounds = [await h2load(settings.grpc.port, _PATH, bench.body, requests // 3, pid) for _ in range(3)]
            load = best(rounds)
            checking.cancel()
            return _Measured(load, resident, checker.sent, len(checker.wrong) + load.failed)
    finally:
        await control.stop()


async def _all_routed(control: GatewayControl, pid: int) -> None:
    """Wait until the gateway has every route and its memory stands still."""
    async with asyncio.timeout(60):
        while not control.connected or control.accepted < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        before = -1
        while abs(resident_kib(pid) - before) > 100:
            before = resident_kib(pid)
            await asyncio.sleep(0.5)


async def _through_python(bench: _Bench, requests: int) -> Load:
    port = free_port()
    script = Path(__file__).parent / "python_proxy.py"
    arguments = (str(port), f"{HOST}:{bench.upstream_port}", _MODEL, _revision(_MODEL))
    async with running(sys.executable, str(script), *arguments, port=port) as pid:
        await h2load(port, _PATH, bench.body, requests // 10, pid)
        return best([await h2load(port, _PATH, bench.body, requests // 3, pid) for _ in range(3)])


@contextlib.asynccontextmanager
async def _prepared() -> AsyncIterator[_Bench]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        body = folder / "request"
        body.write_bytes(_frame(_request()))
        checked_port = free_port()
        echo = grpc.aio.server()
        echo.add_generic_rpc_handlers((_Echo(),))
        echo.add_insecure_port(f"{HOST}:{checked_port}")
        await echo.start()
        await port_open(checked_port)
        async with _fast_upstream(folder) as (port, pid):
            yield _Bench(folder, body, port, pid, checked_port)
        await echo.stop(0)


@measures("gateway")
async def measure(quick: bool) -> list[Row]:
    """Rows of the hot path."""
    fast, slow = (40_000, 6_000) if quick else (150_000, 15_000)
    async with _prepared() as bench:
        python = await _through_python(bench, slow)
        direct = await h2load(bench.upstream_port, _PATH, bench.body, fast, bench.upstream_pid)
        through = {routed: await _through_gateway(bench, routed, fast) for routed in (_QUICK if quick else _ROUTED)}
        python_after = await _through_python(bench, slow)
    return _rows(direct, best([python, python_after]), through)


def _rows(direct: Load, python: Load, through: dict[int, _Measured]) -> list[Row]:
    least, most = min(through), max(through)
    rows = []
    for routed, measured in through.items():
        group = f"gateway, {routed:,} routed"
        load = measured.load
        must = routed == most
        rows += [
            Row(group, "requests/s over the Python proxy's", load.rate / python.rate, "x",
                f"{load.rate:,.0f} against {python.rate:,.0f}", at_least(6) if must else None),
            Row(group, "requests/s over the server's own", load.rate / direct.rate, "x",
                f"{load.rate:,.0f} against {direct.rate:,.0f}"),
            Row(group, "CPU a request", load.cpu, "us", f"the Python proxy's {python.cpu:.0f} us",
                at_most(45) if must else None),
            Row(group, "p50 over direct", load.p50 - direct.p50, "ms",
                f"the Python proxy's {python.p50 - direct.p50:.2f}"),
            Row(group, "p99 over direct", load.p99 - direct.p99, "ms",
                f"the Python proxy's {python.p99 - direct.p99:.2f}"),
            Row(group, "wrong or failed answers", measured.wrong, "",
                f"of {measured.checked:,} checked one by one", at_most(0)),
        ]  # fmt: skip
    kib = (through[most].resident_kib - through[least].resident_kib) / (most - least)
    mib = {routed: f"{through[routed].resident_kib / 1024:.0f}" for routed in (most, least)}
    beside = f"{mib[most]} MiB at {most:,}, {mib[least]} at {least:,}"
    rows.append(Row("gateway", "memory a routed model", kib, "KB", beside, at_most(30)))
    return rows

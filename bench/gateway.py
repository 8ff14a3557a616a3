"""The gateway against the model server itself and against a Python proxy, with few and with many routed models."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from bench.processes import HOST, Load, free_port, h2load, median, port_open, resident_kib, running
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
    file = folder / "htdocs" / _PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(_frame(_answer()))
    port = free_port()
    options = ("--no-tls", "--address", HOST, "--htdocs", str(folder / "htdocs"), "--trailer", "grpc-status: 0")
    async with running("nghttpd", *options, str(port), port=port) as pid:
        yield port, pid


class _Echo(grpc.GenericRpcHandler):
    """A model server whose answers can be checked: the request's id and the revision it was asked for."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        async def infer(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
            asked = inference.ModelInferRequest.FromString(request)
            return inference.ModelInferResponse(model_name=asked.model_name, id=asked.id).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(infer) if details.method == _PATH else None


@dataclass(eq=False)
class _Checker:
    """Sends a request now and then, whoever is under load, and checks every answer."""

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
                await asyncio.sleep(0.05)


@dataclass(frozen=True, slots=True)
class _Target:
    """What is put under load: a port, and the process that answers there."""

    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class _Gateway(_Target):
    resident_kib: int
    checker: _Checker


def _settings() -> GatewaySettings:
    ports = [Address(host=HOST, port=free_port()) for _ in range(6)]
    names = ("grpc", "rest", "xds", "activator_grpc", "activator_http", "management")
    return GatewaySettings.model_validate(dict(zip(names, ports, strict=True)))


@contextlib.asynccontextmanager
async def _gateway(bench: _Bench, routed: int) -> AsyncIterator[_Gateway]:
    settings = _settings()
    control = GatewayControl(settings, GatewayCallbacks(lambda _: None, lambda *_: None))

    def upstream(name: str, port: int) -> tuple[Upstream, ...]:
        return (Upstream(_revision(name), HOST, port, None),)

    names = [_MODEL, *(f"other-string-{i}" for i in range(routed - 1))]
    changes = {RouteKey(name): upstream(name, bench.upstream_port) for name in names}
    changes[RouteKey(_CHECKED)] = upstream(_CHECKED, bench.checked_port)
    control.publish(1, changes)
    await control.start()
    path = bench.folder / f"envoy-{routed}.json"
    write_bootstrap(settings, path)
    try:
        async with running(*command(settings, path), port=settings.grpc.port) as pid:
            await _all_routed(control, pid)
            checker = _Checker(settings.grpc.port)
            checking = asyncio.ensure_future(checker.run())
            yield _Gateway(settings.grpc.port, pid, resident_kib(pid), checker)
            checking.cancel()
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


@contextlib.asynccontextmanager
async def _python_proxy(bench: _Bench) -> AsyncIterator[_Target]:
    port = free_port()
    script = Path(__file__).parent / "python_proxy.py"
    arguments = (str(port), f"{HOST}:{bench.upstream_port}", _MODEL, _revision(_MODEL))
    async with running(sys.executable, str(script), *arguments, port=port) as pid:
        yield _Target(port, pid)


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


@dataclass(frozen=True, slots=True)
class _Plan:
    """How much is sent: rounds, and in each as many requests to what is fast and to the Python proxy."""

    rounds: int
    fast: int
    slow: int
    routed: tuple[int, ...]


_FULL = _Plan(rounds=7, fast=40_000, slow=5_000, routed=(1, 1_000, 20_000))
_QUICK = _Plan(rounds=3, fast=15_000, slow=2_000, routed=(1, 20_000))


@measures("gateway", "h2load", "nghttpd")
async def measure(quick: bool) -> list[Row]:
    """Rows of the hot path.

    All are there from the start and take turns, so that whatever else the machine does meets all alike.
    """
    plan = _QUICK if quick else _FULL
    async with _prepared() as bench, contextlib.AsyncExitStack() as stack:
        gateways = {routed: await stack.enter_async_context(_gateway(bench, routed)) for routed in plan.routed}
        python = await stack.enter_async_context(_python_proxy(bench))
        direct = _Target(bench.upstream_port, bench.upstream_pid)
        targets: list[_Target] = [direct, *gateways.values(), python]
        rounds: dict[_Target, list[Load]] = {target: [] for target in targets}
        for _ in range(1 + plan.rounds):
            for target in targets:
                requests = plan.slow if target is python else plan.fast
                load = await h2load(
                    target.port, _PATH, bench.body, requests, target.pid, answer_bytes=len(_frame(_answer()))
                )
                rounds[target].append(load)
    loads = {target: median(each[1:]) for target, each in rounds.items()}  # the first warms up
    through = {routed: (gateway, loads[gateway]) for routed, gateway in gateways.items()}
    return _rows(loads[direct], loads[python], through, plan.rounds)


def _rows(direct: Load, python: Load, through: dict[int, tuple[_Gateway, Load]], rounds: int) -> list[Row]:
    least, most = min(through), max(through)
    rows = []
    for routed, (gateway, load) in through.items():
        group = f"gateway, {routed:,} routed"
        must = routed == most
        wrong = len(gateway.checker.wrong) + load.failed
        rows += [
            Row(group, "requests/s over the Python proxy's", load.rate / python.rate, "x",
                f"{load.rate:,.0f} against {python.rate:,.0f}, medians of {rounds} turns",
                at_least(6) if must else None),
            Row(group, "requests/s over the server's own", load.rate / direct.rate, "x",
                f"{load.rate:,.0f} against {direct.rate:,.0f}"),
            Row(group, "CPU a request", load.cpu, "us", f"the Python proxy's {python.cpu:.0f} us",
                at_most(45) if must else None),
            Row(group, "p50 over direct", load.p50 - direct.p50, "ms",
                f"the Python proxy's {python.p50 - direct.p50:.2f}"),
            Row(group, "p99 over direct", load.p99 - direct.p99, "ms",
                f"the Python proxy's {python.p99 - direct.p99:.2f}"),
            Row(group, "wrong or failed answers", wrong, "",
                f"of all, {gateway.checker.sent:,} of them checked one by one", at_most(0)),
        ]  # fmt: skip
    kib = {routed: gateway.resident_kib for routed, (gateway, _) in through.items()}
    beside = f"{kib[most] / 1024:.0f} MiB at {most:,}, {kib[least] / 1024:.0f} at {least:,}"
    per_model = (kib[most] - kib[least]) * 1024 / 1000 / (most - least)
    rows.append(Row("gateway", "memory a routed model", per_model, "KB", beside, at_most(30)))
    return rows

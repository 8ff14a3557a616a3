"""Checked inference traffic: every answer is compared with what its own model must answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import grpc
import grpc.aio
import numpy as np
from train import samples

from shoal_protos import inference as oip


@dataclass(slots=True)
class Tally:
    """What happened. Latencies in seconds."""

    hot: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    answered_by: dict[str, set[int]] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """All requests so far."""
        return len(self.hot) + len(self.cold) + len(self.failures)

    @property
    def hit_ratio(self) -> float:
        """Share of requests that found their model loaded."""
        return len(self.hot) / max(1, len(self.hot) + len(self.cold))


def percentile(latencies: Collection[float], percent: float) -> float:
    """A percentile in milliseconds; 0 without values."""
    return float(np.percentile(list(latencies), percent)) * 1000 if latencies else 0.0


def milliseconds(value: float) -> str:
    """A time, to three digits or so: what a narrow terminal has room for."""
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def zipf_weights(count: int, exponent: float = 1.1) -> list[float]:
    """How popular the first, second, ... model is."""
    return [1 / (rank + 1) ** exponent for rank in range(count)]


class Client:
    """Asks models for digits, over gRPC.

    Args:
        address: of the gateway.
        expected: of each model, one tuple of answers to all rows for each version that may answer.
        rows: what to ask about; default: `samples`.
        tensor: name of the models' input.
    """

    def __init__(
        self,
        address: str,
        expected: Mapping[str, Collection[tuple[int, ...]]],
        rows: np.ndarray | None = None,
        tensor: str = "predict",
    ) -> None:
        self.expected = dict(expected)
        self.tally = Tally()
        self._rows = samples() if rows is None else rows
        self._tensor = tensor
        self._stopped = False
        self._channel = grpc.aio.insecure_channel(address)
        self._infer = self._channel.unary_unary(
            oip.method_path("ModelInfer"), lambda m: m.SerializeToString(), oip.ModelInferResponse.FromString
        )

    def stop(self) -> None:
        """Send no more; `play` returns once everything is answered."""
        self._stopped = True

    async def close(self) -> None:
        """Disconnect."""
        await self._channel.close()

    async def ask(self, name: str, timeout: float = 60.0) -> None:
        """One request; what comes of it is in the tally."""
        row = random.randrange(len(self._rows))
        request = oip.ModelInferRequest(model_name=name)
        request.inputs.add(name=self._tensor, datatype="FP32", shape=[1, 64])
        request.raw_input_contents.append(self._rows[row].tobytes())
        started = time.perf_counter()
        # A version may stop being acceptable while the request is under way.
        acceptable = list(self.expected[name])
        try:
            call = self._infer(request, timeout=timeout)
            answer = await call
            cold = "x-shoal-served" in dict(await call.initial_metadata())
        except grpc.aio.AioRpcError as error:
            self.tally.failures.append(f"{name}: {error.code().name} {error.details()}")
            return
        took = time.perf_counter() - started
        value = first_integer(answer)
        if all(answers[row] != value for answers in [*acceptable, *self.expected[name]]):
            self.tally.failures.append(f"{name}: answered {value} to digit {row}")
            return
        self.tally.answered_by.setdefault(answer.model_name, set()).add(value)
        (self.tally.cold if cold else self.tally.hot).append(took)

    async def play(
        self, pick: Callable[[], str], seconds: float, rate: float, watch: Callable[[], None] = lambda: None
    ) -> None:
        """Send about `rate` requests a second for `seconds`, whether or not earlier ones are answered."""
        tasks: set[asyncio.Task[None]] = set()
        started = time.perf_counter()
        sent = 0
        while (elapsed := time.perf_counter() - started) < seconds and not self._stopped:
            while sent < elapsed * rate:
                task = asyncio.create_task(self.ask(pick()))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                sent += 1
            watch()
            await asyncio.sleep(0.005)
        if tasks:
            await asyncio.wait(tasks)
        watch()


def first_integer(answer: object) -> int:
    """The first number of the first output."""
    raw = answer.raw_output_contents  # type: ignore[attr-defined]
    if raw:
        return int(np.frombuffer(raw[0], dtype=np.int64)[0])
    return int(answer.outputs[0].contents.int64_contents[0])  # type: ignore[attr-defined]

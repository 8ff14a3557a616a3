"""Checked inference traffic in all forms: every answer is compared with what its own model and revision must answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
import grpc.aio
import numpy as np

from e2e_models import samples, version_of
from shoal_protos import inference as oip

HEADER = "Inference-Header-Content-Length"
FORMS = ("grpc", "seed", "json", "binary")


@dataclass(slots=True)
class Subject:
    """A model under traffic. Answers may come from `oldest` (at sending) to `newest` (then or at answering)."""

    name: str
    number: int
    answers: dict[int, list[int]]
    oldest: int = 1
    newest: int = 1
    revisions: dict[int, str] = field(default_factory=dict)
    """Revision ids by version, as answers named them."""
    divided: bool = False
    """A rollout divides requests: an answer of the newer version does not mean that the older one is gone."""
    counts: Counter[int] = field(default_factory=Counter)
    """Answers by version."""

    def judge(self, row: int, value: int, revision: str, allowed: tuple[int, int]) -> str:
        """What is wrong with an answer; empty if nothing is. Also notes that a newer version has answered."""
        number, version = version_of(value)
        if number != self.number:
            return f"answered by model {number}"
        oldest, newest = allowed[0], max(allowed[1], self.newest)
        if not oldest <= version <= newest:
            return f"answered by version {version}, allowed were {oldest} to {newest}"
        if value != self.answers[version][row]:
            return f"version {version} answered {value} to row {row}"
        if self.revisions.setdefault(version, revision) != revision:
            return f"version {version} is {revision}, but was {self.revisions[version]}"
        self.counts[version] += 1
        if not self.divided:
            self.oldest = max(self.oldest, version)
        return ""


class Traffic:
    """Sends requests of all forms to the gateway's two ports, and judges the answers."""

    def __init__(self, grpc_address: str, rest: str, subjects: list[Subject]) -> None:
        self.subjects = subjects
        self.failures: list[str] = []
        self.latencies: list[float] = []
        self.forms: Counter[str] = Counter()
        self._rows = samples()
        self._bodies = {form: [self._body(form, row) for row in range(len(self._rows))] for form in FORMS[1:]}
        self._rest = rest
        # Connections of its own: those of others to the same address may be waiting after a failure.
        self._channel = grpc.aio.insecure_channel(grpc_address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._infer = self._channel.unary_unary(
            oip.method_path("ModelInfer"), oip.ModelInferRequest.SerializeToString, oip.ModelInferResponse.FromString
        )
        self._stopped = False
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200))

    @property
    def answered(self) -> int:
        """Requests that are over, well or not."""
        return len(self.latencies) + len(self.failures)

    async def close(self) -> None:
        """Disconnect."""
        await self._session.close()
        await self._channel.close()

    async def play(self, pick: Callable[[], Subject], seconds: float, rate: float) -> float:
        """Send `rate` requests a second for `seconds`, answered or not: the rate that was reached."""
        forms = itertools.cycle(FORMS)
        tasks: set[asyncio.Task[None]] = set()
        started = time.perf_counter()
        sent = 0
        while (elapsed := time.perf_counter() - started) < seconds and not self._stopped:
            while sent < elapsed * rate:
                task = asyncio.create_task(self.ask(pick(), next(forms)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                sent += 1
            await asyncio.sleep(0.005)
        if tasks:
            await asyncio.wait(tasks)
        return sent / (time.perf_counter() - started)

    def stop(self) -> None:
        """Send no more; `play` returns once everything is answered."""
        self._stopped = True

    async def ask(self, subject: Subject, form: str, timeout: float = 60.0) -> None:
        """One request."""
        row = random.randrange(len(self._rows))
        allowed = subject.oldest, subject.newest
        started = time.perf_counter()
        try:
            sent = self._by_grpc(subject, row, timeout) if form == "grpc" else self._by_rest(subject, row, form)
            value, revision = await asyncio.wait_for(sent, timeout)
            wrong = subject.judge(row, value, revision, allowed)
        except grpc.aio.AioRpcError as error:
            wrong = f"{error.code().name} {error.details()}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
            wrong = f"{type(error).__name__} {error}"
        if wrong:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {subject.name} by {form}: {wrong}")
        else:
            self.forms[form] += 1
            self.latencies.append(time.perf_counter() - started)

    async def _by_grpc(self, subject: Subject, row: int, timeout: float) -> tuple[int, str]:
        request = oip.ModelInferRequest(model_name=subject.name)
        request.inputs.add(name="predict", datatype="FP32", shape=[1, 64])
        request.raw_input_contents.append(self._rows[row].tobytes())
        answer = await self._infer(request, timeout=timeout)
        if answer.raw_output_contents:
            return int(np.frombuffer(answer.raw_output_contents[0], np.int64)[0]), answer.model_name
        return int(answer.outputs[0].contents.int64_contents[0]), answer.model_name

    async def _by_rest(self, subject: Subject, row: int, form: str) -> tuple[int, str]:
        body, headers = self._bodies[form][row]
        url = f"{self._rest}/v2/models/{subject.name}/infer"
        async with self._session.post(url, data=body, headers=headers) as response:
            content = await response.read()
            if response.status != 200:
                raise ValueError(f"{response.status} {content[:300].decode(errors='replace')}")
            length = int(response.headers.get(HEADER, len(content)))
        answer = json.loads(content[:length])
        output = answer["outputs"][0]
        if form == "seed":
            return int(output["contents"]["int64Contents"][0]), answer["modelName"]
        if "data" in output:
            return int(np.ravel(output["data"])[0]), answer["model_name"]
        return int(np.frombuffer(content[length:], np.int64)[0]), answer["model_name"]

    def _body(self, form: str, row: int) -> tuple[bytes, dict[str, str]]:
        pixels = self._rows[row]
        tensor: dict[str, object] = {"name": "predict", "shape": [1, 64], "datatype": "FP32"}
        headers = {"Content-Type": "application/json"}
        if form == "seed":
            return json.dumps({"inputs": [tensor | {"contents": {"fp32_contents": pixels.tolist()}}]}).encode(), headers
        if form == "json":
            return json.dumps({"inputs": [tensor | {"data": [pixels.tolist()]}]}).encode(), headers
        raw = pixels.tobytes()
        tensor["parameters"] = {"binary_data_size": len(raw)}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        return head + raw, {"Content-Type": "application/octet-stream", HEADER: str(len(head))}

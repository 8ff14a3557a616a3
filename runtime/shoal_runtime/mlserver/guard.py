"""Wraps one model's methods: loads in a thread, notes what is under way, and unloads only when they are done.

Its answers and refusals come out in the protocol's plain form.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator
from typing import Any

from mlserver.logging import logger
from mlserver.model import MLModel
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_wrapped_method

from shoal_runtime.mlserver.answers import asks_content_type, with_numbers, without_default_content_types
from shoal_runtime.mlserver.loading import check_loaded, explained
from shoal_runtime.mlserver.refusals import check_fit, outputs_asked, refusal
from shoal_runtime.mlserver.workers import Workers, may_leave_loop
from shoal_runtime.underway import Activity, UnderWay

_KEPT = frozenset({"_settings", "_inputs_index", "_outputs_index", "ready"})
"""Attributes MLServer still looks at after an unload."""


def drain_seconds() -> float:
    """Longest an unload waits for requests under way: `SHOAL_DRAIN_SECONDS`, 30 by default.

    Raises:
        ValueError: it is no number.
    """
    text = os.environ.get("SHOAL_DRAIN_SECONDS") or "30"
    try:
        return max(0.0, float(text))
    except ValueError:
        raise ValueError(f"SHOAL_DRAIN_SECONDS={text!r} must be a number of seconds") from None


class Guard:
    """The wrapping of one model. Works for any class, as it replaces methods on the object only."""

    def __init__(self, model: MLModel, workers: Workers, drain: float, notes: UnderWay) -> None:
        self._model = model
        self._name = model.name
        self._workers = workers
        self._notes = notes
        self._drain = drain
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._wrap_load(model)
        self._wrap_predict(model)
        self._wrap_stream(model)
        self._wrap_unload(model)

    def _wrap_load(self, model: MLModel) -> None:
        load = model.load
        around = functools.partial(self._notes.noted, self._name, Activity.LOADING)

        async def noted() -> Any:
            if may_leave_loop(model):
                return await self._workers.drive(load, around)
            with around():
                return await load()

        @functools.wraps(load)
        async def explaining() -> Any:
            try:
                ready = await noted()
            except Exception as error:
                if (reason := explained(model, error)) is not None:
                    raise reason from error
                raise
            check_loaded(model)
            return ready

        model.load = explaining

    def _wrap_predict(self, model: MLModel) -> None:
        predict = model.predict
        unbatched = get_wrapped_method(predict)

        async def alone_if_it_fails(payload: InferenceRequest) -> InferenceResponse:
            try:
                return await predict(payload)
            except Exception:
                if unbatched == predict:
                    raise
            # Requests of a batch fail together; alone, only those that are at fault do.
            return await unbatched(payload)

        @functools.wraps(predict)
        async def counted(payload: InferenceRequest) -> InferenceResponse:
            typed, asked = asks_content_type(payload), outputs_asked(payload)
            check_fit(model, payload)
            noted = self._enter()
            try:
                response = with_numbers(await alone_if_it_fails(payload))
            except Exception as error:
                if (refused := refusal(model, payload, asked, error)) is not None:
                    raise refused from error
                raise
            finally:
                self._leave(noted)
            return response if typed else without_default_content_types(response)

        model.predict = counted

    def _wrap_stream(self, model: MLModel) -> None:
        predict_stream = model.predict_stream

        @functools.wraps(predict_stream)
        async def counted(payloads: AsyncIterator[InferenceRequest]) -> AsyncIterator[InferenceResponse]:
            noted = self._enter()
            try:
                async for response in predict_stream(payloads):
                    yield with_numbers(response)
            finally:
                self._leave(noted)

        model.predict_stream = counted

    def _wrap_unload(self, model: MLModel) -> None:
        unload = model.unload

        @functools.wraps(unload)
        async def drained() -> Any:
            idle = await self._drained()
            try:
                with self._notes.noted(self._name, Activity.UNLOADING):
                    return await unload()
            finally:
                if idle:
                    _forget(model)

        model.unload = drained

    async def _drained(self) -> bool:
        try:
            async with asyncio.timeout(self._drain):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("%d requests to %s outlast its unload", self._running, self._model.name)
        return self._running == 0

    def _enter(self) -> int:
        self._running += 1
        self._idle.clear()
        return self._notes.begin(self._name, Activity.ANSWERING)

    def _leave(self, noted: int) -> None:
        self._notes.end(noted)
        self._running -= 1
        if not self._running:
            self._idle.set()


def _forget(model: MLModel) -> None:
    """Drops what the model holds, also where its class kept it after `unload`, and the cycles the wrapping made."""
    for name in [name for name in vars(model) if name not in _KEPT]:
        del vars(model)[name]

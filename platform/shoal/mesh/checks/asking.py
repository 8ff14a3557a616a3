"""Asks the outside how a rollout does: webhooks, and Prometheus servers.

Nobody answering counts neither way, so that a monitoring system that is away neither passes nor fails a rollout.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from shoal.core.actions import AskCheck
from shoal.core.events import CheckAnswered, Event
from shoal.core.rollout.plan import Check, Metric
from shoal.core.types import EndpointName
from shoal.mesh.checks.promql import fill_in, sample_of

log = logging.getLogger(__name__)

MAX_ANSWER: Final = 256 * 1024
"""Bytes of an answer."""
MAX_MESSAGE: Final = 300
"""Characters of a message from outside that are kept."""
MAX_AT_ONCE: Final = 64
"""Questions under way; others wait for their turn, within their timeout."""

_QUERY_PATH: Final = "/api/v1/query"


class _NoAnswerError(Exception):
    """Nobody said whether the check holds; the message says why."""


class CheckAsker:
    """Implements `Asker`.

    Args:
        submit: how the core is told.
    """

    def __init__(self, submit: Callable[[Event], None]) -> None:
        self._submit = submit
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            # Compressed answers could be of any size once unpacked.
            headers={"accept-encoding": "identity", "accept": "application/json", "user-agent": "shoal"},
        )
        self._tasks: dict[tuple[EndpointName, str, str], asyncio.Task[None]] = {}

    def start(self, action: AskCheck) -> None:
        """See `Asker`. Another question for the same check replaces one under way."""
        key = (action.endpoint, action.rollout, action.check.name)
        if earlier := self._tasks.pop(key, None):
            earlier.cancel()
        self._tasks[key] = task = asyncio.create_task(self._run(action))
        task.add_done_callback(lambda done: self._tasks.pop(key) if self._tasks.get(key) is done else None)

    async def close(self) -> None:
        """Give up what is under way, and close connections."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    async def _run(self, action: AskCheck) -> None:
        check = action.check
        good: bool | None = None
        value: float | None = None
        try:
            async with asyncio.timeout(check.timeout), self._turns:
                ask = self._webhook if check.metric is Metric.WEBHOOK else self._prometheus
                good, value, message = await ask(action)
        except _NoAnswerError as error:
            message = str(error)
        except TimeoutError:
            message = f"{_place(check)} gave no answer within {check.timeout:g}s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            message = f"{_place(check)} cannot be asked: {error or type(error).__name__}"
        except Exception as error:
            log.exception("asking %s for check %s failed", _place(check), check.name)
            message = f"the check could not be asked: {type(error).__name__}"
        self._submit(
            CheckAnswered(action.endpoint, action.rollout, check.name, good, _finite(value), message[:MAX_MESSAGE])
        )

    async def _webhook(self, action: AskCheck) -> tuple[bool, float | None, str]:
        """2xx is good unless the body says `"passed": false`, 4xx is bad, anything else no answer."""
        check = action.check
        document = {
            "endpoint": action.endpoint,
            "rollout": action.rollout,
            "active": action.active,
            "target": action.target,
            "check": check.name,
        }
        status, body = await self._exchange(self._client.build_request("POST", _url(check), json=document), check)
        said = _document(body)
        message = said.get("message")
        message = message if isinstance(message, str) else ""
        if 400 <= status < 500:
            return False, _number(said.get("value")), message or f"{_place(check)} answered {status}"
        if not 200 <= status < 300:
            raise _NoAnswerError(f"{_place(check)} answered {status}{_redirected(status)}")
        if said.get("passed") is False:
            return False, _number(said.get("value")), message or f"{_place(check)} says that it did not pass"
        return True, _number(said.get("value")), message

    async def _prometheus(self, action: AskCheck) -> tuple[bool, float, str]:
        """The value of the query's first sample, against the check's limits."""
        check = action.check
        names = {"endpoint": action.endpoint, "active": action.active, "target": action.target}
        url = _url(check)
        url = url.copy_with(path=url.path.rstrip("/") + _QUERY_PATH)
        request = self._client.build_request("GET", url, params={"query": fill_in(check.query, names)})
        status, body = await self._exchange(request, check)
        said = _document(body)
        if status != 200 or said.get("status") != "success":
            why = said.get("error")
            told = f": {why}" if isinstance(why, str) else _redirected(status)
            raise _NoAnswerError(f"{_place(check)} answered {status}{told}")
        try:
            value = sample_of(said.get("data"))
        except ValueError as error:
            raise _NoAnswerError(f"{_place(check)}: {error}") from None
        if check.max is not None and value > check.max:
            return False, value, f"{value:g} is above {check.max:g}"
        if check.min is not None and value < check.min:
            return False, value, f"{value:g} is below {check.min:g}"
        return True, value, ""

    async def _exchange(self, request: httpx.Request, check: Check) -> tuple[int, bytes]:
        request.extensions["timeout"] = httpx.Timeout(check.timeout).as_dict()
        response = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise _NoAnswerError(f"{_place(check)} answered with more than {MAX_ANSWER} bytes")
        finally:
            await response.aclose()
        return response.status_code, bytes(body)


def _url(check: Check) -> httpx.URL:
    url = httpx.URL(check.url)
    if url.scheme not in ("http", "https") or not url.host:
        raise _NoAnswerError("the check's url must be like http://host:port/path")
    return url


def _place(check: Check) -> str:
    """Who is asked, without what may be secret in the URL."""
    kind = "the webhook" if check.metric is Metric.WEBHOOK else "Prometheus"
    try:
        url = httpx.URL(check.url)
    except httpx.InvalidURL:
        return kind
    return f"{kind} at {url.host}{f':{url.port}' if url.port else ''}"


def _redirected(status: int) -> str:
    return "; redirects are not followed" if 300 <= status < 400 else ""


def _document(body: bytes) -> Mapping[str, Any]:
    """The JSON object in a body; empty if it is something else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

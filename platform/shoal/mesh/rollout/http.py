"""Rollouts in the mesh's own HTTP: the command line, pipelines and whoever speaks JSON look at them and steer them."""

from __future__ import annotations

import json
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shoal.core.rollout.record import Verb
from shoal.mesh.api import RolloutHistory, RolloutRefusedError
from shoal.mesh.rollout.report import report
from shoal.mesh.rollout.steering import Steering
from shoal.registry.protocol import RegistryError

MAX_BODY: Final = 16 * 1024
"""Bytes of a request."""
MAX_TEXT: Final = 500
"""Characters of a field."""
MAX_LISTED: Final = 1_000
"""Rollouts in one answer."""
_FIELDS: Final = ("rollout", "by", "reason")


class BadRequestError(Exception):
    """The request is wrong; the message names the field and the fix."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class RolloutRoutes:
    """`/rollouts` and what is below it."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    def routes(self) -> list[Route]:
        """For the admin application."""
        return [
            Route("/rollouts", self._list),
            Route("/rollouts/{name}", self._show),
            Route("/rollouts/{name}/{verb}", self._steer, methods=["POST"]),
        ]

    async def _list(self, _: Request) -> Response:
        now = self._steering.now()
        some = zip(range(MAX_LISTED), self._steering.all(), strict=False)
        return JSONResponse({"rollouts": [report(status, now, history=False) for _, status in some]})

    async def _show(self, request: Request) -> Response:
        name = request.path_params["name"]
        status = self._steering.status(name)
        return self._report(status) if status else _unknown(name)

    async def _steer(self, request: Request) -> Response:
        name = request.path_params["name"]
        try:
            verb = _verb(request.path_params["verb"])
            fields = _fields(await _body(request))
        except BadRequestError as error:
            return JSONResponse({"error": str(error)}, error.status)
        if self._steering.status(name) is None:
            return _unknown(name)
        try:
            await self._steering.steer(name, verb, **fields)
        except RolloutRefusedError as error:
            return JSONResponse({"error": str(error)}, 409)
        except RegistryError as error:
            return JSONResponse({"error": f"done, but not durable yet, which is tried again: {error}"}, 503)
        status = self._steering.status(name)
        return self._report(status) if status else _unknown(name)

    def _report(self, status: RolloutHistory) -> Response:
        return JSONResponse(report(status, self._steering.now()))


def _unknown(name: str) -> Response:
    return JSONResponse({"error": f"no rollout of {name}: there is none of this name, or it never had one"}, 404)


def _verb(text: str) -> Verb:
    try:
        return Verb(text)
    except ValueError:
        possible = ", ".join(verb.value for verb in Verb)
        raise BadRequestError(f"verb {text[:40]!r} in the path: must be one of {possible}") from None


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise BadRequestError(f"the body is larger than the limit of {MAX_BODY} bytes: shorten `reason`", 413)
    return bytes(body)


def _fields(body: bytes) -> dict[str, str]:
    try:
        document: Any = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise BadRequestError('the body must be a JSON object such as {"reason": "looks good"}')
    for name, value in document.items():
        if name not in _FIELDS:
            raise BadRequestError(f"{name[:40]}: there is no such field; use {', '.join(_FIELDS)}")
        if not isinstance(value, str):
            raise BadRequestError(f"{name}: must be text")
        if len(value) > MAX_TEXT:
            raise BadRequestError(f"{name}: has {len(value)} characters, and {MAX_TEXT} are allowed; shorten it")
    return document

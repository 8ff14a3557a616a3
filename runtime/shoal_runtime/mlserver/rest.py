"""The REST side of inference: the protocol's JSON and binary tensors, and errors in the protocol's form.

Stock MLServer answers binary tensors with 422, and tells faults of a request in FastAPI's form or not at all.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from mlserver.codecs.json import encode_to_json_bytes
from mlserver.errors import MLServerError
from mlserver.handlers import DataPlane
from mlserver.logging import logger
from mlserver.rest.requests import Request
from mlserver.rest.responses import Response
from mlserver.utils import extract_headers, insert_headers
from starlette.exceptions import HTTPException
from starlette.requests import Request as AnyRequest
from starlette.responses import Response as AnyResponse
from starlette.routing import Route

from shoal.oip.tensors import JSON_LENGTH_HEADER
from shoal_runtime.mlserver.binary import faults, read_request, write_response
from shoal_runtime.mlserver.faults import OF_THE_REQUEST, RequestFaultError, told

_PATHS: Final = tuple(
    f"/v2/models/{{model_name}}{version}/{verb}"
    for version in ("", "/versions/{model_version}")
    for verb in ("infer", "generate")
)
_INTERNAL: Final = 500
_BAD_REQUEST: Final = 400


def serve_tensors(app: FastAPI, data_plane: DataPlane) -> None:
    """Puts inference with binary tensors before MLServer's own routes, and its errors into the protocol's form."""
    endpoint = _Inference(data_plane)
    app.router.routes[:0] = [Route(path, endpoint.infer, methods=["POST"]) for path in _PATHS]
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(RequestFaultError, _faulty)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _failed)


class _Inference:
    """One request, one answer."""

    def __init__(self, data_plane: DataPlane) -> None:
        self._data_plane = data_plane

    async def infer(self, request: AnyRequest) -> AnyResponse:
        """Answers as MLServer's own endpoint does where nothing is binary."""
        payload, wanted = read_request(await _body(request), request.headers.get(JSON_LENGTH_HEADER))
        insert_headers(payload, dict(request.headers))
        name, version = request.path_params["model_name"], request.path_params.get("model_version")
        try:
            answer = await self._data_plane.infer(payload, name, version)
        except MLServerError:
            raise
        except Exception as error:
            # Left to Starlette it would also end the connection, with other requests of the client on it.
            logger.exception("model %s failed", name)
            return await _failed(request, error)
        headers = extract_headers(answer)
        document, tail = write_response(answer, wanted)
        if not tail:
            return _json(document, headers=headers)
        text = encode_to_json_bytes(document)
        return AnyResponse(
            b"".join([text, *tail]),
            headers={**(headers or {}), JSON_LENGTH_HEADER: str(len(text))},
            media_type="application/octet-stream",
        )


async def _body(request: AnyRequest) -> bytes:
    try:
        content: bytes = await Request(request.scope, request.receive).body()
    except (OSError, EOFError, zlib.error) as error:
        raise RequestFaultError(f"Content-Encoding: the body is not gzip: {error}") from None
    return content


async def _invalid(_: AnyRequest, error: Exception) -> AnyResponse:
    assert isinstance(error, RequestValidationError)
    return _error(_BAD_REQUEST, faults(error.errors()))


async def _faulty(_: AnyRequest, error: Exception) -> AnyResponse:
    return _error(_BAD_REQUEST, str(error), dict(OF_THE_REQUEST))


async def _refused(request: AnyRequest, error: Exception) -> AnyResponse:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, f"{request.method} {request.url.path}: {error.detail}", error.headers)


async def _failed(_: AnyRequest, error: Exception) -> AnyResponse:
    """The server's own fault, or a model's; the traceback is in the log."""
    return _error(_INTERNAL, told(error))


def _error(status: int, text: str, headers: Any = None) -> AnyResponse:
    return _json({"error": text}, status, headers)


def _json(document: Any, status: int = 200, headers: Any = None) -> AnyResponse:
    answer: AnyResponse = Response(document, status_code=status, headers=headers)
    return answer

"""`shoal infer`: one request through the gateway."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx

from shoal.cli.errors import CliError, CommandTimedOut
from shoal.cli.output import as_json, show
from shoal.cli.session import target as session_target


def send(state_dir: Path | None, name: str, file: str, *, by_grpc: bool, address: str | None, timeout: float) -> None:
    """`shoal infer`.

    Raises:
        CliError: the gateway refused it, or does not answer.
    """
    text = _read(file)
    if address is None:
        addresses = session_target(state_dir, "").report().addresses
        address = addresses.grpc if by_grpc else addresses.rest
    answer = _grpc(address, name, text, timeout) if by_grpc else _rest(address, name, text, timeout)
    show(answer)


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file}: {getattr(error, 'strerror', None) or 'is not text'}") from None


def _rest(address: str, name: str, text: str, timeout: float) -> str:
    base = address if "://" in address else f"http://{address}"
    url = f"{base.rstrip('/')}/v2/models/{name}/infer"
    try:
        with httpx.Client(timeout=httpx.Timeout(timeout, connect=5.0), trust_env=False) as client:
            response = client.post(url, content=text.encode(), headers={"Content-Type": "application/json"})
    except httpx.ReadTimeout:
        raise CommandTimedOut(f"no answer from {url} within {timeout:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CliError(f"{url} does not answer: {error}") from None
    if response.is_error:
        raise CliError(f"{response.status_code} {response.reason_phrase}: {_message(response)}")
    return _pretty(response.text)


def _message(response: httpx.Response) -> str:
    try:
        document = response.json()
    except ValueError:
        return response.text.strip()[:1000] or "no message"
    if isinstance(document, dict):
        return str(document.get("error") or document.get("message") or response.text)
    return response.text


def _pretty(text: str) -> str:
    try:
        return as_json(json.loads(text))
    except ValueError:
        return text


def _grpc(address: str, name: str, text: str, timeout: float) -> str:
    import grpc
    from google.protobuf import json_format

    import shoal_protos.inference as oip

    try:
        request = json_format.Parse(text, oip.ModelInferRequest())
    except json_format.ParseError as error:
        raise CliError(f"the request is not a ModelInferRequest in JSON: {error}") from None
    request.model_name = name
    with grpc.insecure_channel(address.removeprefix("grpc://")) as channel:
        call = channel.unary_unary(
            oip.method_path("ModelInfer"),
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelInferResponse.FromString,
        )
        try:
            answer = call(request, timeout=timeout)
        except grpc.RpcError as error:
            message = f"{error.code().name}: {error.details()}"
            raise (CommandTimedOut if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else CliError)(
                message
            ) from None
    return json_format.MessageToJson(answer)

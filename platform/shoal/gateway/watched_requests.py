"""How gateways report requests to watched copies: Envoy's access log service (ALS), and how its entries are read.

Envoy logs a request when it is over. `lua/upstream_rollout.lua` has noted what it tried before that: a canary's error
that users never saw is there all the same. The filter of the log costs other requests next to nothing, unlike a log of
Envoy's router, for which every answer's headers are copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from shoal.gateway import names
from shoal.gateway.protocols import RequestSeen
from shoal_protos.inference import SERVICE
from shoal_protos.xds import access_log_pb2

_FLUSH_SECONDS = 0.25
_BUFFER_BYTES = 64 * 1024
"""A worker sends what it has when it is so much, about a hundred requests, or after `_FLUSH_SECONDS`."""

ERRORS: Final = frozenset(("2", "3", "9", "11", "12", "13", "14", "15"))
"""gRPC: UNKNOWN, INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.

That a request is refused may be the new model's fault: it may want other inputs than the active one, and many model
servers answer INVALID_ARGUMENT when a model raises. It is the request's if the server says so (`FAULT_HEADER`), or if
the active revision, which is asked where there is a shield, refuses it as well.
"""
_REFUSALS: Final = frozenset((400, 422))
_REFUSED: Final = frozenset(("3", "9", "11", "400", "422"))
"""Of both protocols, as attempts note them."""
_DEADLINE_EXCEEDED = "4"
_COPY_LOST = frozenset(("5", "404"))
"""gRPC NOT_FOUND and its like: the copy lost the model, which says nothing of the model."""
_STREAMS = (f"{SERVICE}/ModelStreamInfer", "/generate_stream", "/infer_stream")
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_MILLISECONDS: Final = {"H": 3.6e6, "M": 6e4, "S": 1e3, "m": 1.0, "u": 1e-3, "n": 1e-6}
"""Units of gRPC's `grpc-timeout` header."""
_NEARLY = 0.9
"""Of its deadline, after which a client that cancels has run into it: it counts from before the gateway does."""


def watched_log() -> dict[str, Any]:
    """The `envoy.config.accesslog.v3.AccessLog` of a listener, for requests that had to do with watched copies."""
    watched = {
        "matcher": {"filter": names.ATTEMPTS, "path": [{"key": names.WATCHED}], "value": {"bool_match": True}},
        "match_if_key_not_found": False,
    }
    return {
        "name": "envoy.access_loggers.http_grpc",
        "filter": {"metadata_filter": watched},
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config": {
                "log_name": "attempts",
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": names.XDS}},
                "buffer_flush_interval": f"{_FLUSH_SECONDS}s",
                "buffer_size_bytes": _BUFFER_BYTES,
            },
            "additional_request_headers_to_log": [names.ROUTE_HEADER, "grpc-timeout"],
            "additional_response_headers_to_log": ["grpc-status", names.FAULT_HEADER],
            "additional_response_trailers_to_log": ["grpc-status", names.FAULT_HEADER],
        },
    }


def attempts(entry: access_log_pb2.HTTPAccessLogEntry) -> Iterator[RequestSeen]:
    """How each attempt of one request at a watched copy went.

    A request that both revisions refuse is an error of neither. An answer of a copy that lost its model is left out. A
    client that cancelled had no answer, which is the copy's fault only once the client's deadline has passed; otherwise
    it took at least so long.
    """
    common = entry.common_properties
    try:
        key = names.route_key(entry.request.request_headers.get(names.ROUTE_HEADER, ":"))
    except ValueError:
        return
    notes = common.metadata.filter_metadata[names.ATTEMPTS].fields
    last = common.upstream_request_attempt_count
    agreed = _last_status(entry) in _REFUSED and any(
        note.struct_value.fields["status"].string_value in _REFUSED for name, note in notes.items() if name.isdigit()
    )
    for number in range(1, last + 1):
        note = notes[str(number)].struct_value if str(number) in notes else None
        revision = note.fields["revision"].string_value if note else ""
        if note is None or not revision:
            continue
        if number == last:
            yield RequestSeen(key, revision, _last_took(entry), not agreed and _last_failed(entry))
        elif note.fields["status"].string_value not in _COPY_LOST:
            following = notes[str(number + 1)].struct_value if str(number + 1) in notes else None
            refused = agreed and note.fields["status"].string_value in _REFUSED
            yield RequestSeen(key, revision, _took(note, following), error=not refused)


def _took(note: Struct, following: Struct | None) -> float:
    start = note.fields["from"].number_value
    end = note.fields["to"].number_value or (following.fields["from"].number_value if following else start)
    return max(0.0, end - start) / 1000


def _last_took(entry: access_log_pb2.HTTPAccessLogEntry) -> float:
    """From the request's first byte to the answer's last, at the copy; for streams to its first."""
    common = entry.common_properties
    streams = entry.request.path.split("?", 1)[0].endswith(_STREAMS)
    end = common.time_to_first_upstream_rx_byte if streams else common.time_to_last_upstream_rx_byte
    end_ms = _milliseconds(end) or _milliseconds(common.duration)
    return max(0.0, end_ms - _milliseconds(common.time_to_first_upstream_tx_byte))


def _last_failed(entry: access_log_pb2.HTTPAccessLogEntry) -> bool:
    response = entry.response
    code = response.response_code.value
    if _said(entry, names.FAULT_HEADER) == names.OF_THE_REQUEST:
        return False
    status = _said(entry, "grpc-status")
    if status is not None:
        return status in ERRORS or status == _DEADLINE_EXCEEDED
    flags = entry.common_properties.response_flags
    if flags.downstream_remote_reset or flags.downstream_connection_termination:
        return _deadline_passed(entry)
    return code == 0 or code >= 500 or code in _REFUSALS


def _last_status(entry: access_log_pb2.HTTPAccessLogEntry) -> str:
    return _said(entry, "grpc-status") or str(entry.response.response_code.value)


def _said(entry: access_log_pb2.HTTPAccessLogEntry, header: str) -> str | None:
    """What an answer says at its end, or at its beginning."""
    response = entry.response
    said: str | None = response.response_trailers.get(header) or response.response_headers.get(header)
    return said


def _deadline_passed(entry: access_log_pb2.HTTPAccessLogEntry) -> bool:
    timeout = _TIMEOUT.fullmatch(entry.request.request_headers.get("grpc-timeout", ""))
    if timeout is None:
        return False
    limit = int(timeout[1]) * _MILLISECONDS[timeout[2]]
    return _milliseconds(entry.common_properties.duration) >= _NEARLY * limit


def _milliseconds(duration: Duration) -> float:
    return duration.seconds * 1e3 + duration.nanos / 1e6

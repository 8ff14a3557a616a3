"""Envoy's HTTP filters that listeners and routes share, as JSON: scripts, and what happens to each attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shoal.gateway import names
from shoal.gateway.scripts import script

_TYPE = "type.googleapis.com/envoy.extensions.filters.http"


def lua_filter(name: str, source: str, *others: str) -> dict[str, Any]:
    """A filter that runs one script; routes may choose another of `others` by name."""
    return {
        "name": name,
        "typed_config": {
            "@type": f"{_TYPE}.lua.v3.Lua",
            "default_source_code": {"inline_string": script(source)},
            "source_codes": {other: {"inline_string": script(other)} for other in others},
            "clear_route_cache": False,
        },
    }


def noted_encoding() -> dict[str, Any]:
    """Keeps what `content-encoding` says, for the script that finds the unpacked body to be none."""
    return _mutate(
        request_mutations=[*_remove(names.ENCODING_HEADER), _header(names.ENCODING_HEADER, "%REQ(content-encoding)%")]
    )


def copy_filters() -> list[dict[str, Any]]:
    """What happens to each attempt at a copy over REST: its answer may not count."""
    return [lua_filter("shoal.upstream", "upstream_rest"), _CODEC]


def rollout_filters(forget: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What happens to each attempt on a route of a rollout once its copy is known. `forget`: headers never sent on."""
    requests = [
        *_remove(*forget, names.MODEL_HEADER, names.WATCHED_HEADER),
        _from_copy(names.MODEL_HEADER, names.REVISION),
        _from_copy(names.WATCHED_HEADER, names.WATCHED),
    ]
    responses = [*_remove(names.SHIELDED_HEADER), _from_copy(names.SHIELDED_HEADER, names.SHIELDED)]
    return [
        _mutate(request_mutations=requests),
        lua_filter("shoal.upstream", "upstream_rollout"),
        _mutate(response_mutations=responses),  # answers pass the filters in reverse: before the script sees them
        _CODEC,
    ]


def own_headers(route: str) -> dict[str, Any]:
    """Clears the headers that only the gateway may set, before anything else; requests begin on `route`."""
    mutations = [
        *_remove(names.FOR_HEADER, names.METHOD_HEADER, names.WATCHED_HEADER),
        _header(names.ROUTE_HEADER, route),
    ]
    kind = "http.early_header_mutation.header_mutation"
    return {
        "name": f"envoy.{kind}",
        "typed_config": {
            "@type": f"type.googleapis.com/envoy.extensions.{kind}.v3.HeaderMutation",
            "mutations": mutations,
        },
    }


_CODEC = {
    "name": "envoy.filters.http.upstream_codec",
    "typed_config": {"@type": f"{_TYPE}.upstream_codec.v3.UpstreamCodec"},
}


def _mutate(**mutations: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {"@type": f"{_TYPE}.header_mutation.v3.HeaderMutation", "mutations": mutations},
    }


def _remove(*headers: str) -> list[dict[str, Any]]:
    return [{"remove": header} for header in headers]


def _from_copy(header: str, key: str) -> dict[str, Any]:
    """Set a header to what the copy's metadata says; there is none if that says nothing."""
    return _header(header, f"%UPSTREAM_METADATA({names.METADATA}:{key})%")


def _header(header: str, value: str) -> dict[str, Any]:
    """Set a header; a value that comes out empty sets none."""
    return {"append": {"header": {"key": header, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}

"""Identity of a revision and what a runtime pod is told about it, byte for byte as ModelMesh Serving does it.

The id is the first five bytes of the SHA-1 over the compact JSON that Go writes for upstream's internal predictor spec.
So an isvc has the same revision id under Shoal as under ModelMesh, and manifests, logs and dashboards stay comparable.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from shoal.resources.source import ModelSource

_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_HASH_BYTES = 5


def go_json(value: Any) -> str:
    """Compact JSON as Go's `encoding/json` writes it: UTF-8, HTML characters escaped, keys in the order given."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return "".join(_HTML.get(character, character) for character in text)


def revision_id(name: str, model: ModelSource, *, source: str = "isvc") -> str:
    """The id of the revision an InferenceService of this name has with this model."""
    digest = hashlib.sha1(go_json(_predictor_spec(model)).encode(), usedforsecurity=False).digest()
    return f"{name}__{source}-{digest[:_HASH_BYTES].hex()}"


def type_string(model: ModelSource) -> str:
    """The model's type: `rt:RUNTIME`, or `mt:FORMAT[:VERSION][|pv:PROTOCOL]`."""
    if model.runtime:
        return f"rt:{model.runtime}"
    version = f":{model.version}" if model.version else ""
    protocol = f"|pv:{model.protocol}" if model.protocol else ""
    return f"mt:{model.format}{version}{protocol}"


def model_key(model: ModelSource) -> str:
    """The `key` of `mmesh.ModelInfo`: where the files are and what they are, as JSON."""
    key: dict[str, Any] = {}
    if model.storage_key is not None:
        key["storage_key"] = model.storage_key
    if model.parameters:
        key["storage_params"] = dict(sorted(model.parameters.items()))
    key["model_type"] = _model_type(model)
    if model.schema_path is not None:
        key["schema_path"] = model.schema_path
    return go_json(key)


def _model_type(model: ModelSource) -> dict[str, str]:
    return {"name": model.format} | ({} if model.version is None else {"version": model.version})


def _predictor_spec(model: ModelSource) -> dict[str, Any]:
    storage: dict[str, Any] = {"path": model.path}
    if model.schema_path is not None:
        storage["schemaPath"] = model.schema_path
    storage["parameters"] = dict(sorted(model.parameters.items()))
    if model.storage_key is not None:
        storage["key"] = model.storage_key
    spec: dict[str, Any] = {"modelType": _model_type(model), "path": "", "storage": storage}
    if model.runtime:
        spec["runtime"] = {"name": model.runtime}
    if model.protocol:
        spec["protocolVersion"] = model.protocol
    return spec

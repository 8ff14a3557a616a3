"""Bodies in Kubernetes' protobuf form, as far as kubectl sends them.

`kubectl create namespace|secret|configmap` and `kubectl auth` use typed clients, which write protobuf and read JSON.
The field numbers are those of the published Kubernetes API (`generated.proto`); only what these commands write is
here, and every other kind is answered with 415 and the way around it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from shoal.apiserver.errors import ApiError, bad_request

if TYPE_CHECKING:
    from google.protobuf.message import Message

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_PACKAGE = "shoal.kubernetes"

# message -> field name -> (number, type); a type in <> is the value type of a map, * marks a repeated field.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "TypeMeta": {"apiVersion": (1, "string"), "kind": (2, "string")},
    "Unknown": {"typeMeta": (1, "TypeMeta"), "raw": (2, "bytes")},
    "ObjectMeta": {
        "name": (1, "string"),
        "generateName": (2, "string"),
        "namespace": (3, "string"),
        "uid": (5, "string"),
        "resourceVersion": (6, "string"),
        "labels": (11, "<string>"),
        "annotations": (12, "<string>"),
        "finalizers": (14, "*string"),
    },
    "Namespace": {"metadata": (1, "ObjectMeta")},
    "Secret": {
        "metadata": (1, "ObjectMeta"),
        "data": (2, "<bytes>"),
        "type": (3, "string"),
        "stringData": (4, "<string>"),
        "immutable": (5, "bool"),
    },
    "ConfigMap": {
        "metadata": (1, "ObjectMeta"),
        "data": (2, "<string>"),
        "binaryData": (3, "<bytes>"),
        "immutable": (4, "bool"),
    },
    "SelfSubjectAccessReview": {"metadata": (1, "ObjectMeta")},
    "SelfSubjectRulesReview": {"metadata": (1, "ObjectMeta")},
    "SelfSubjectReview": {"metadata": (1, "ObjectMeta")},
}
_OBJECTS = frozenset(name for name, fields in _MESSAGES.items() if "metadata" in fields)


def decode(body: bytes) -> dict[str, Any]:
    """Return the object in a protobuf body as the JSON document it stands for.

    Raises:
        ApiError: 400 for a malformed body, 415 for a kind whose protobuf form is not known here.
    """
    from google.protobuf.json_format import MessageToDict  # only these few requests pay for the import
    from google.protobuf.message import DecodeError

    if not body.startswith(_MAGIC):
        raise bad_request("the body is not Kubernetes protobuf: it does not begin with its magic number")
    try:
        envelope = MessageToDict(_parse("Unknown", body[len(_MAGIC) :]))
        kind = envelope.get("typeMeta", {}).get("kind", "")
        if kind not in _OBJECTS:
            message = (
                f"{kind or 'this kind'} is not accepted as protobuf: send JSON or YAML, e.g. by kubectl apply -f FILE"
            )
            raise ApiError(415, "UnsupportedMediaType", message)
        parsed = _parse(kind, _raw(body))
    except DecodeError:
        raise bad_request("the body is not valid Kubernetes protobuf") from None
    document: dict[str, Any] = MessageToDict(parsed, preserving_proto_field_name=True)
    return _without_empty({**envelope["typeMeta"], **document})


def _raw(body: bytes) -> bytes:
    raw: bytes = _parse("Unknown", body[len(_MAGIC) :]).raw  # type: ignore[attr-defined]
    return raw


def _without_empty(document: dict[str, Any]) -> dict[str, Any]:
    """Go writes empty strings for absent fields."""
    return {
        key: _without_empty(value) if key == "metadata" else value
        for key, value in document.items()
        if value not in ("", {}, [])
    }


def _parse(name: str, body: bytes) -> Message:
    message = _classes()[name]()
    message.ParseFromString(body)
    return message


@cache
def _classes() -> dict[str, type[Message]]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="shoal/kubernetes.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    get = message_factory.GetMessageClass
    return {name: get(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES}


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number, label=3 if kind[0] in "<*" else 1)
    if kind.startswith("<"):
        entry = message.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string")
        _add_field(entry, "value", 2, kind.strip("<>"))
        _set_type(field, f"{message.name}.{entry.name}")
    else:
        _set_type(field, kind.lstrip("*"))


def _set_type(field: Any, kind: str) -> None:
    scalars = {"string": 9, "bytes": 12, "bool": 8}
    if kind in scalars:
        field.type = scalars[kind]
    else:
        field.type, field.type_name = 11, f".{_PACKAGE}.{kind}"

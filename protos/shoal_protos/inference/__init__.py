"""The Open Inference Protocol, as message classes and method names.

The classes come from a descriptor pool of their own: `tritonclient` and `mlserver` register messages of the same full
names in the default pool, and a process may well import one of them beside Shoal.

Attributes:
    DESCRIPTOR_SET: the serialised `FileDescriptorSet`, with the HTTP annotations the gateway's transcoder reads.
    SERVICE: full name of the gRPC service.
"""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE: Final = "inference.GRPCInferenceService"
DESCRIPTOR_SET: Final[bytes] = resources.files(__name__).joinpath("open_inference.binpb").read_bytes()


def _load() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET).file:
        pool.Add(file)
    service = pool.FindServiceByName(SERVICE)
    classes = {}
    for method in service.methods:
        for message in (method.input_type, method.output_type):
            classes[message.name] = message_factory.GetMessageClass(message)
    for name in ("InferParameter", "InferTensorContents"):
        classes[name] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}"))
    return classes


_CLASSES: Final = _load()


def __getattr__(name: str) -> Any:
    try:
        return _CLASSES[name]
    except KeyError:
        raise AttributeError(f"the Open Inference Protocol has no message {name!r}") from None


def method_path(method: str) -> str:
    """The gRPC path of one method, such as `/inference.GRPCInferenceService/ModelInfer`."""
    return f"/{SERVICE}/{method}"

"""gRPC server reflection, so that clients such as grpcurl need no protocol files."""

from __future__ import annotations

from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from shoal.gateway.names import HEALTH_SERVICE
from shoal_protos.inference import DESCRIPTOR_SET, SERVICE
from shoal_protos.mmesh import model_mesh_pb2

_SERVICES: Final = (SERVICE, "mmesh.ModelMesh", HEALTH_SERVICE, reflection.SERVICE_NAME)
_NAMES: Final = (reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection")
"""The messages of both versions are the same."""


def handlers() -> list[grpc.GenericRpcHandler]:
    """The service in both of its versions: what is served besides models' own services."""
    servicer = reflection.aio.ReflectionServicer(_SERVICES, _pool())
    rpc = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return [grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": rpc}) for name in _NAMES]


def _pool() -> descriptor_pool.DescriptorPool:
    """All files of these services in one place; the inference protocol's are not in protobuf's own pool."""
    pool = descriptor_pool.DescriptorPool()
    files = {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET).file}
    for module in (model_mesh_pb2, health_pb2, reflection_pb2):
        _collect(module.DESCRIPTOR, files)
    for file in files.values():
        pool.Add(file)
    return pool


def _collect(descriptor: Any, files: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    """A file and those it imports, these first."""
    for dependency in descriptor.dependencies:
        _collect(dependency, files)
    if descriptor.name not in files:
        files[descriptor.name] = descriptor_pb2.FileDescriptorProto()
        descriptor.CopyToProto(files[descriptor.name])

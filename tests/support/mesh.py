"""A real model server for tests of the mesh: speaks `mmesh.ModelRuntime` as a custom runtime of upstream would, and the
Open Inference Protocol. Its models answer with their own path, so that every answer can be checked."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
from dataclasses import dataclass, field

import grpc
import grpc.aio

from shoal_protos import inference as oip
from shoal_protos.mmesh import model_mesh_pb2, model_runtime_pb2, model_runtime_pb2_grpc

MIB = 1024 * 1024


def free_subnet() -> str:
    """The first three numbers of a loopback network nobody uses now, such as `127.81.7`."""
    for _ in range(100):
        subnet = f"127.{random.randint(130, 250)}.{random.randint(1, 250)}"
        with socket.socket() as probe:
            try:
                probe.bind((f"{subnet}.1", 18000))
            except OSError:
                continue
        return subnet
    raise OSError("no free loopback network found")


@dataclass
class PlainRuntime(model_runtime_pb2_grpc.ModelRuntimeServicer):
    """One runtime pod. `path` of a model may be JSON: {"answer", "bytes", "seconds", "fail", "error", "versions"}."""

    host: str
    capacity: int = 100 * MIB
    concurrency: int = 2
    loaded: dict[str, dict] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    infer_seconds: float = 0.0
    answering: int = 0

    async def start(self) -> None:
        self.server = grpc.aio.server()
        model_runtime_pb2_grpc.add_ModelRuntimeServicer_to_server(self, self.server)
        rpcs = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(
                self.infer, oip.ModelInferRequest.FromString, lambda m: m.SerializeToString()
            ),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
                self.stream, oip.ModelInferRequest.FromString, lambda m: m.SerializeToString()
            ),
            "ModelReady": grpc.unary_unary_rpc_method_handler(
                self.ready, oip.ModelReadyRequest.FromString, lambda m: m.SerializeToString()
            ),
            "ModelMetadata": grpc.unary_unary_rpc_method_handler(
                self.metadata, oip.ModelMetadataRequest.FromString, lambda m: m.SerializeToString()
            ),
        }
        custom = {"Ask": grpc.unary_unary_rpc_method_handler(self.ask)}
        self.server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(oip.SERVICE, rpcs),
                grpc.method_handlers_generic_handler("test.Custom", custom),
            )
        )
        self.server.add_insecure_port(f"{self.host}:8085")
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop(0)

    async def runtimeStatus(self, request, context):
        self.loaded.clear()
        return model_runtime_pb2.RuntimeStatusResponse(
            status=model_runtime_pb2.RuntimeStatusResponse.READY,
            capacityInBytes=self.capacity,
            maxLoadingConcurrency=self.concurrency,
            modelLoadingTimeoutMs=10_000,
            defaultModelSizeInBytes=MIB,
            runtimeVersion="test",
        )

    async def loadModel(self, request, context):
        spec = json.loads(request.modelPath)
        self.log.append(f"load {request.modelId}")
        await asyncio.sleep(spec.get("seconds", 0))
        if "fail" in spec:
            await context.abort(grpc.StatusCode.INTERNAL, spec["fail"])
        self.loaded[request.modelId] = spec
        return model_runtime_pb2.LoadModelResponse(sizeInBytes=spec.get("bytes", MIB))

    async def unloadModel(self, request, context):
        self.log.append(f"unload {request.modelId}")
        self.loaded.pop(request.modelId, None)
        return model_runtime_pb2.UnloadModelResponse()

    async def infer(self, request, context):
        self.answering += 1
        spec = self.loaded.get(request.model_name)
        try:
            await asyncio.sleep(self.infer_seconds)
            await self.still(request.model_name, spec, context)
            return await self.answer(request, context)
        finally:
            self.answering -= 1

    async def answer(self, request, context):
        spec = self.loaded.get(request.model_name)
        if spec is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model_name}")
        await self.check_version(request.model_name, request.model_version, context)
        if "missing" in spec:
            await context.abort(grpc.StatusCode.NOT_FOUND, spec["missing"])
        if "error" in spec:
            await context.abort(grpc.StatusCode.INTERNAL, spec["error"])
        response = oip.ModelInferResponse(model_name=request.model_name, id=request.id)
        output = response.outputs.add(name="answer", datatype="BYTES", shape=[1])
        if "raw" in spec:
            response.raw_output_contents.append(bytes.fromhex(spec["raw"]))
        else:
            output.contents.bytes_contents.append(spec["answer"].encode())
        return response

    async def check_version(self, name, version, context):
        if version and version not in self.loaded[name].get("versions", ()):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{name} has no version {version}")

    async def ready(self, request, context):
        return oip.ModelReadyResponse(ready=request.name in self.loaded)

    async def still(self, name, spec, context):
        """A server without a guard fails what is under way when its model is taken away."""
        if spec is not None and self.loaded.get(name) is not spec:
            await context.abort(grpc.StatusCode.INTERNAL, f"{name} was unloaded under its request")

    async def stream(self, requests, context):
        spec = None
        async for request in requests:
            await self.still(request.model_name, spec, context)
            spec = self.loaded.get(request.model_name)
            yield await self.answer(request, context)

    async def metadata(self, request, context):
        if request.name not in self.loaded:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.name}")
        await self.check_version(request.name, request.version, context)
        return oip.ModelMetadataResponse(name=request.name, platform="test")

    async def ask(self, request, context):
        headers = dict(context.invocation_metadata())
        return f"{headers.get('mm-model-id')} {headers.get('color')} {request.decode()}".encode()


def model_info(answer: str, **more) -> model_mesh_pb2.ModelInfo:
    return model_mesh_pb2.ModelInfo(type="rt:test", path=json.dumps({"answer": answer, **more}))


class Client:
    """Calls a mesh or gateway at one address."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])

    async def infer(self, name: str, *, timeout: float = 10, metadata=()) -> str:
        request = oip.ModelInferRequest(model_name=name, id=os.urandom(4).hex())
        request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1.0)
        call = self.channel.unary_unary(
            oip.method_path("ModelInfer"), lambda m: m.SerializeToString(), oip.ModelInferResponse.FromString
        )
        response = await call(request, timeout=timeout, metadata=metadata)
        assert response.id == request.id
        return response.outputs[0].contents.bytes_contents[0].decode()

    async def close(self) -> None:
        await self.channel.close()

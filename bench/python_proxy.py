"""What the gateway is compared with: a pass-through proxy on `grpc.aio` that renames the model, as small as it gets."""

from __future__ import annotations

import asyncio
import sys

import grpc

from bench.load import REVISION, model


async def serve(port: str, target: str, models: int) -> None:
    call = grpc.aio.insecure_channel(target).unary_unary("/inference.GRPCInferenceService/ModelInfer")
    table = {model(number).encode(): (model(number) + REVISION).encode() for number in range(models)}

    async def infer(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
        end = 2 + request[1]
        target_name = table[request[2:end]]
        return await call(b"\x0a" + bytes([len(target_name)]) + target_name + request[end:])

    class Everything(grpc.GenericRpcHandler):
        def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(infer)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Everything(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    port, target, models = sys.argv[1:]
    asyncio.run(serve(port, target, int(models)))

"""A custom runtime that answers one request with several responses: it counts up to the number it was sent."""

from collections.abc import AsyncIterator

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Counter(MLModel):
    """Counts."""

    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        return self._answer(payload.inputs[0].data[0])

    async def predict_stream(self, payloads: AsyncIterator[InferenceRequest]) -> AsyncIterator[InferenceResponse]:
        async for payload in payloads:
            for number in range(1, int(payload.inputs[0].data[0]) + 1):
                yield self._answer(number)

    def _answer(self, number: int) -> InferenceResponse:
        output = ResponseOutput(name="count", datatype="INT64", shape=[1], data=[int(number)])
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])

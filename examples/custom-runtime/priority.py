"""A custom runtime: scores support tickets with a word list, a model no built-in runtime can serve."""

import json
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput, ResponseOutput
from mlserver.utils import get_model_uri

WELLKNOWN_FILENAMES = ["weights.json"]


class TicketPriority(MLModel):
    """Adds up the weights of the words in each text."""

    # Reading a file touches nothing of the event loop, so it may happen in a thread while others are served.
    load_off_loop = True

    async def load(self) -> bool:
        uri = await get_model_uri(self.settings, wellknown_filenames=WELLKNOWN_FILENAMES)
        self._weights: dict[str, float] = json.loads(Path(uri).read_text())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        texts = StringCodec.decode_input(self._only_input(payload))
        scores = [sum(self._weights.get(word, 0.0) for word in text.lower().split()) for text in texts]
        output = ResponseOutput(name="score", datatype="FP64", shape=[len(scores), 1], data=scores)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])

    async def unload(self) -> bool:
        self._weights = {}
        return True

    def _only_input(self, payload: InferenceRequest) -> RequestInput:
        if len(payload.inputs) != 1 or payload.inputs[0].datatype != "BYTES":
            raise InferenceError("send one input of datatype BYTES: the texts to score")
        return payload.inputs[0]

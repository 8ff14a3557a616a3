"""A custom runtime written as the guide's skeleton says: digits, in words."""

import joblib
import numpy as np
from mlserver import MLModel, types
from mlserver.codecs import StringCodec
from mlserver.errors import InferenceError
from mlserver.utils import get_model_uri

WELLKNOWN_MODEL_FILENAMES = ["model.json", "model.dat"]
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


class CustomMLModel(MLModel):
    """Names the digit it sees."""

    async def load(self) -> bool:
        model_uri = await get_model_uri(self._settings, wellknown_filenames=WELLKNOWN_MODEL_FILENAMES)
        self._model = joblib.load(model_uri)
        self.ready = True
        return self.ready

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        payload = self._check_request(payload)
        return types.InferenceResponse(
            model_name=self.name, model_version=self.version, outputs=self._predict_outputs(payload)
        )

    def _check_request(self, payload: types.InferenceRequest) -> types.InferenceRequest:
        if len(payload.inputs) != 1 or list(payload.inputs[0].shape)[1:] != [64]:
            raise InferenceError("send one input of 64 pixels a row")
        return payload

    def _predict_outputs(self, payload: types.InferenceRequest) -> list[types.ResponseOutput]:
        rows = np.reshape(payload.inputs[0].data.root, payload.inputs[0].shape)
        words = [WORDS[digit] for digit in self._model.predict(rows)]
        return [StringCodec.encode_output("digit", words)]

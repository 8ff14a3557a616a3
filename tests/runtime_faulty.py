"""A model class with every fault that hurts its server, for the tests of the adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FAULTY_RUNTIME = '''
import asyncio
import ctypes
import os
import time

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

FAULTS = {
    "exit": lambda: os._exit(1),
    "segfault": lambda: ctypes.string_at(0),
    "block": lambda: time.sleep(600),
    "fine": lambda: None,
}


class Faulty(MLModel):
    """`extra` names a fault for each of load, predict and unload; `nth` is the request that has it."""

    load_off_loop = os.path.exists(os.path.join(os.path.dirname(__file__), "off-loop"))

    def _do(self, what):
        FAULTS[(self.settings.parameters.extra or {}).get(what, "fine")]()

    async def load(self):
        self._asked = 0
        self._do("load")
        if "until" in (self.settings.parameters.extra or {}):
            while not os.path.exists(self.settings.parameters.extra["until"]):
                await asyncio.sleep(0.02)
        return True

    async def predict(self, payload):
        self._asked += 1
        extra = self.settings.parameters.extra or {}
        if self._asked >= extra.get("nth", 1):
            self._do("predict")
        await asyncio.sleep(extra.get("seconds", 0))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("o", np.ones(1))])

    async def unload(self):
        self._do("unload")
        return True
'''


def faulty_model(folder: Path, *, off_loop: bool = False, **extra: Any) -> None:
    """Writes a model folder of the class above."""
    folder.mkdir(parents=True)
    (folder / "faulty.py").write_text(FAULTY_RUNTIME)
    if off_loop:
        (folder / "off-loop").touch()
    settings = {"implementation": "faulty.Faulty", "parameters": {"extra": extra}}
    (folder / "model-settings.json").write_text(json.dumps(settings))

"""Memory that only the garbage collector frees is given back after every unload, not only after the first."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from shoal_runtime.mlserver.memory import Tidier
from waiting import until


class Model:
    """Holds itself, as models do whose parts point back at them."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def no_collection_of_its_own() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection_of_its_own")
async def test_a_model_unloaded_soon_after_another_is_collected_when_the_pause_is_over() -> None:
    tidier = Tidier()
    for _ in range(3):
        gone = weakref.ref(Model())
        assert gone() is not None
        tidier.unloaded()
        await until(lambda gone=gone: gone() is None, "the model to be collected")

"""One mesh with one Dagster for all these tests, and a first version of the model that they roll out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from speeds import starts_server
from support.dagster_ui import LOCATION, MODULE, Stack, launched, retrain


@pytest.fixture(scope="session")
@starts_server
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Started by `python -m dagster_shoal up`."""
    models = ("--partition", "digits", "--partition", "digits-forest")
    with launched(
        tmp_path_factory.mktemp("ui") / "state", "--module", MODULE, *models, "--location", LOCATION
    ) as stack:
        yield stack


@pytest.fixture(scope="session")
def serving(stack: Stack) -> Stack:
    """`digits` is served in a first version, which was trained and rolled out by a run."""
    stack.dagster.must_succeed(stack.dagster.launch("retrain", retrain(seed=0)))
    return stack

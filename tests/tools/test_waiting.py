"""A wait that is over in vain says what was waited for, how long, and what there was instead."""

from __future__ import annotations

import itertools

import pytest

from waiting import eventually, until


def said(error: pytest.ExceptionInfo[AssertionError]) -> str:
    return str(error.value)


def test_the_first_true_answer_is_given():
    numbers = itertools.count()
    assert eventually(lambda: next(numbers) // 3, "three", every=0.0) == 1


def test_what_was_waited_for_how_long_and_the_last_answer():
    with pytest.raises(AssertionError) as error:
        eventually(list, "a first row", 0.01, 0.001)
    assert said(error) == "not within 0.01 s: a first row; the last answer was []"


def test_without_words_the_code_says_it():
    with pytest.raises(AssertionError) as error:
        eventually(lambda: 1 > 2, seconds=0.0)
    assert said(error).startswith("not within 0 s: ")
    assert "lambda: 1 > 2" in said(error)


@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
async def test_asynchronous_tests_ask_either_kind(kind):
    numbers = itertools.count()

    async def asked() -> int:
        return next(numbers) // 3

    assert await until(asked if kind == "asynchronous" else lambda: next(numbers) // 3, "three", every=0.0) == 1
    with pytest.raises(AssertionError, match=r"^not within 0 s: never$"):
        await until(lambda: None, "never", seconds=0.0)

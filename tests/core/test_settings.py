"""Settings are checked where they are made."""

from __future__ import annotations

import ast
import inspect
import itertools
from dataclasses import fields

import pytest

from shoal.core import settings
from shoal.core.settings import CoreSettings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"load_attempts": 0}, "load_attempts must be greater than 0"),
        ({"headroom_fraction": 0.2}, "headroom_fraction must not exceed headroom_limit"),
        ({"headroom_limit": 1.0}, "must be below 1"),
        ({"failure_expiry": 10.0}, "failure_expiry_asked must not exceed failure_expiry"),
        ({"second_copy_min_age": 3000.0}, "second_copy_min_age must be less"),
        ({"second_copy_min_age": 2400.0}, "second_copy_min_age must be less"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CoreSettings(**wrong)  # type: ignore[arg-type]


def test_every_setting_is_explained() -> None:
    body = next(node for node in ast.parse(inspect.getsource(settings)).body if isinstance(node, ast.ClassDef)).body
    explained = {
        before.target.id
        for before, after in itertools.pairwise(body)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }
    assert explained == {field.name for field in fields(CoreSettings)}

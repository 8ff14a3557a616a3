"""Settings of one model that its InferenceService gives as `storage.parameters` named `shoal.<option>`.

They are part of the declaration, hence of the revision; the same settings may stand in a `model-settings.json` beside
the artifact, where these win.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from shoal_runtime.errors import InvalidModelError

PREFIX: Final = "shoal."
OPTIONS: Final = ("implementation", "max_batch_size", "max_batch_time")
MAX_BATCH_SIZE: Final = 100_000
MAX_BATCH_SECONDS: Final = 60.0


def split_options(params: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Storage parameters proper, and options without their prefix.

    Raises:
        InvalidModelError: there is no such option.
    """
    storage = {name: value for name, value in params.items() if not name.startswith(PREFIX)}
    options = {name.removeprefix(PREFIX): value for name, value in params.items() if name.startswith(PREFIX)}
    for name in options:
        if name not in OPTIONS:
            known = ", ".join(PREFIX + option for option in OPTIONS)
            raise InvalidModelError(f"storage.parameters: there is no option {PREFIX + name!r}; there are {known}")
    return storage, options


def batching(options: Mapping[str, str]) -> dict[str, Any]:
    """MLServer's adaptive batching settings: requests a batch, and seconds to wait for it to fill.

    Raises:
        InvalidModelError: a value is no number or out of bounds.
    """
    settings: dict[str, Any] = {}
    if "max_batch_size" in options:
        settings["max_batch_size"] = int(_number(options, "max_batch_size", int, MAX_BATCH_SIZE))
    if "max_batch_time" in options:
        settings["max_batch_time"] = _number(options, "max_batch_time", float, MAX_BATCH_SECONDS)
    return settings


def _number(options: Mapping[str, str], name: str, kind: type[int] | type[float], most: float) -> float:
    try:
        value = kind(options[name])
    except ValueError:
        value = -1
    if not 0 <= value <= most:
        what = "a whole number" if kind is int else "a number of seconds"
        raise InvalidModelError(f"storage.parameters: {PREFIX}{name}={options[name]!r} must be {what}, 0 to {most:g}")
    return value

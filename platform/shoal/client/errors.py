"""How the client fails: every message says what is wrong and what to do."""

from __future__ import annotations


class ShoalError(Exception):
    """Something asked of Shoal could not be done. `str()` is for people."""


class NotFound(ShoalError):
    """There is no such InferenceService or rollout."""


class Refused(ShoalError):
    """The API or the mesh understood and said no: a wrong field, a verb that does not fit, missing rights."""


class Unreachable(ShoalError):
    """Nobody answers. It may help to try again."""


class TimedOut(ShoalError):
    """What was waited for did not come in time; the message says how things stand."""

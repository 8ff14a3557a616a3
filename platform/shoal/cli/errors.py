"""How commands fail: one line that says what to do, and an exit code scripts can tell apart."""

from __future__ import annotations


class CliError(Exception):
    """Ends a command. `code`: 1 for a failure, 2 for wrong usage, 3 for a wait that timed out."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class UsageProblem(CliError):
    """The command was called wrongly in a way only it can see."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 2)


class CommandTimedOut(CliError):
    """What was waited for did not come."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 3)

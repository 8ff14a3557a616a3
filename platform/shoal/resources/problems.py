"""What is wrong with a manifest, said so that its author can put it right: the field, the problem and the fix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong field."""

    path: str
    """Such as `spec.containers[0].env[1].value`."""
    problem: str
    fix: str = ""
    unknown: bool = False
    """The field does not exist. Whether that refuses the manifest depends on `fieldValidation` of the request."""

    def __str__(self) -> str:
        said = f"{self.path}: {self.problem}"
        return f"{said}; {self.fix}" if self.fix else said


class InvalidManifest(ValueError):
    """A manifest has wrong fields; `problems` names every one of them."""

    def __init__(self, what: str, problems: Iterable[FieldProblem]) -> None:
        self.what = what
        self.problems = tuple(problems)
        super().__init__(f"{what} is invalid: " + " | ".join(str(problem) for problem in self.problems))

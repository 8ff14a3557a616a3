"""The result of a gate: what was found, kept as JSON until it is signed into the package.

A blocking asset check stops only the run it is in. So every result is kept beside what it judged, and publishing and
rolling out look for it there and in the package, whoever asks and whenever.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class GateVerdict(BaseModel):
    """What a gate says."""

    model_config = ConfigDict(frozen=True)

    gate: str
    passed: bool
    summary: str
    metrics: dict[str, float] = Field(default_factory=dict)
    details: tuple[str, ...] = ()
    """One finding each; those that made it fail come first."""
    subject: str = ""
    """What was judged: id of a dataset, of a draft, or digest of a package. Filled in when it is kept."""
    run: str = ""
    at: datetime = Field(default_factory=_now)

    @property
    def words(self) -> str:
        """Name, summary and findings in one line."""
        findings = self.details if self.details != (self.summary,) else ()
        return "; ".join((f"{self.gate}: {self.summary}", *findings))


def judged(gate: str, problems: list[str], fine: str, *, metrics: dict[str, float] | None = None) -> GateVerdict:
    """Passed if there are no problems."""
    summary = fine if not problems else problems[0] if len(problems) == 1 else f"{len(problems)} problems"
    return GateVerdict(
        gate=gate, passed=not problems, summary=summary, metrics=metrics or {}, details=tuple(problems[:100])
    )


def unseen(gate: str, why: str) -> GateVerdict:
    """Failed, since what it is about could not be looked at."""
    return judged(gate, [f"could not look: {why}"], "")

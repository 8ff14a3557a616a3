"""How long to wait before something that ended is started again: doubling, forgotten after it ran well for a while."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """Delays in seconds. The defaults suit local processes, which start in seconds; kubelets wait 10 s to 300 s."""

    first: float = 0.5
    most: float = 30.0
    factor: float = 2.0
    healthy_after: float = 60.0
    """A run at least this long counts as healthy: the next delay is the first again."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often something ended in a row. Immutable: every end gives a new one."""

    policy: BackoffPolicy = BackoffPolicy()
    failures: int = 0

    def ended(self, ran_for: float) -> Backoff:
        """It ended after running `ran_for` seconds."""
        failures = 1 if ran_for >= self.policy.healthy_after else self.failures + 1
        return Backoff(self.policy, failures)

    @property
    def delay(self) -> float:
        """Seconds to wait before the next start; 0 if it never ended."""
        if self.failures == 0:
            return 0.0
        exponent = min(self.failures - 1, 63)
        return float(min(self.policy.most, self.policy.first * self.policy.factor**exponent))

"""What is remembered of loads that failed: which pods not to try again, and what to tell who asks."""

from __future__ import annotations

from dataclasses import dataclass, field

from shoal.core.types import Failure, PodId


@dataclass(slots=True)
class FailureMemory:
    """The failures of one revision that have not expired."""

    of_pod: dict[PodId, Failure] = field(default_factory=dict)
    """Failures of the model itself, by the pod it was tried on, oldest first."""
    unplaced: Failure | None = None
    """It does not fit on any pod there is."""
    paused: dict[PodId, float] = field(default_factory=dict)
    """Pods that could not do the load for reasons of their own, and until when they are left alone."""
    pod_failures: int = 0
    """How many of those there were in a row."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing left to remember."""
        return not (self.of_pod or self.unplaced or self.paused or self.pod_failures)

    @property
    def newest_first(self) -> tuple[Failure, ...]:
        """For status."""
        found = list(self.of_pod.values())
        if self.unplaced is not None:
            found.append(self.unplaced)
        found.reverse()  # equal times: the one remembered last is the newest
        return tuple(sorted(found, key=lambda failure: -failure.at))

    def remember(self, pod: PodId, failure: Failure) -> None:
        """The model failed on this pod."""
        self.of_pod.pop(pod, None)
        self.of_pod[pod] = failure

    def forget_pod(self, pod: PodId) -> bool:
        """A pod is no more: whether it mattered here."""
        failed, paused = self.of_pod.pop(pod, None), self.paused.pop(pod, None)
        return failed is not None or paused is not None

    def expire(self, older_than: float) -> tuple[PodId, ...]:
        """Forget failures at or before a time: the pods that may be tried again."""
        freed = tuple(pod for pod, failure in self.of_pod.items() if failure.at <= older_than)
        for pod in freed:
            del self.of_pod[pod]
        if self.unplaced is not None and self.unplaced.at <= older_than:
            self.unplaced = None
        return freed

    def resume(self, now: float) -> bool:
        """End pauses that are over; whether there were any."""
        over = [pod for pod, until in self.paused.items() if until <= now]
        for pod in over:
            del self.paused[pod]
        return bool(over)

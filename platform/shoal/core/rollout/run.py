"""A rollout under way: its durable record, what was seen meanwhile, and how it goes through its steps.

Nothing here knows of pods or routes. `Run` is told what happened and what time it is, and changes its record; whoever
owns it sees to weights, copies and durability.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import assert_never

from shoal.core.rollout.analysis import judge
from shoal.core.rollout.lifecycle import RolloutInput, next_phase
from shoal.core.rollout.measure import Observation, Window
from shoal.core.rollout.plan import MEASURED, WHOLE, Analyse, Check, Otherwise, Pause, SetShadow, SetWeight, Step
from shoal.core.rollout.record import MAX_TIMELINE, CheckResult, Phase, Rollout, TimelineEvent, Verdict

DECIDE_SECONDS = 60.0
"""How long after the last step the checks may take to be decided, where there are requests to judge by."""


class Run:
    """One rollout of an endpoint."""

    __slots__ = (
        "_answers",
        "_asked",
        "_bad",
        "_since_step",
        "active",
        "dirty",
        "record",
        "reminded",
        "target",
        "warming",
    )

    def __init__(self, record: Rollout) -> None:
        self.record = record
        self.dirty = True
        """Whether the record changed since it was last made durable."""
        self.active, self.target = Window(), Window()
        self._since_step = (Window(), Window())
        self._asked: dict[str, float] = {}
        self._answers: dict[str, CheckResult] = {}
        self._bad: dict[str, int] = {}
        self.warming = False
        self.reminded = 0.0

    # --- how it stands -----------------------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.record.live

    @property
    def stepped(self) -> bool:
        """Whether more is to happen than a flip once copies match."""
        plan = self.record.plan
        return self.live and bool(plan.steps or plan.checks or plan.warm_up.requests)

    @property
    def watched(self) -> bool:
        """Whether that is still to come: then both revisions stay loaded, and copies matching is not enough to flip.

        While it is paused, whatever its steps, somebody is to say so first.
        """
        return self.record.paused or (self.stepped and self.record.phase is not Phase.PROMOTING)

    @property
    def judged(self) -> bool:
        """Whether its steps have begun: then the active revision's answers count too, for checks compare with them."""
        return self.watched and self.record.warmed

    @property
    def divides(self) -> bool:
        """Whether requests may be divided between both revisions."""
        return self.live and bool(self.record.weight or self.record.shadow)

    def goes_on_in(self, phase: Phase) -> bool:
        """Whether it is in this phase, and not paused there."""
        return self.record.phase is phase and not self.record.paused

    @property
    def step(self) -> Step | None:
        """The step under way; None before the first and after the last."""
        record = self.record
        begun = record.warmed and record.phase is Phase.PROGRESSING
        return record.plan.steps[record.step] if begun and record.step < len(record.plan.steps) else None

    # --- what happens to it ------------------------------------------------------------------------------------------

    def observe(self, observations: Iterable[Observation]) -> None:
        """Count what was seen."""
        for seen in observations:
            if seen.revision == self.record.active:
                windows = (self.active, self._since_step[0])
            elif seen.revision == self.record.target:
                windows = (self.target, self._since_step[1])
            else:
                continue
            for window in windows:
                window.add(seen)

    def answer(self, name: str, good: bool | None, value: float | None, message: str, now: float) -> None:
        """Somebody outside answered a check."""
        check = next((check for check in self._checks() if check.name == name), None)
        if check is None:
            return
        if good is None:
            self._answers[name] = CheckResult(name, Verdict.WAITING, value, None, 0, message, now)
            return
        bad = self._bad[name] = 0 if good else self._bad.get(name, 0) + 1
        verdict = Verdict.PASS if good else Verdict.FAIL if bad > check.failure_limit else Verdict.WAITING
        self._answers[name] = CheckResult(name, verdict, value, None, 1, message, now)

    def matched(self, now: float) -> None:
        """The target has its copies."""
        if self.goes_on_in(Phase.LOADING):
            self._move(RolloutInput.MATCHED, now, "copies match")

    def warmed(self, now: float) -> None:
        """The target's copies are warm: the steps begin."""
        self.warming = False
        if not self.goes_on_in(Phase.WARMING_UP):
            return
        what = "copies are warm" if self.record.plan.warm_up.requests else "no warm-up asked for"
        self._move(RolloutInput.WARMED, now, what)
        self._set(warmed=True)
        self._begin_step(0, now)

    def pause(self, now: float, reason: str) -> None:
        """Wait for someone."""
        self._note(now, reason)
        self._set(paused=True, paused_at=now, reason=reason)

    def resume(self, now: float, how: str) -> None:
        """Go on where it was paused; a step that waited for someone is done. `how` is for the timeline."""
        record = self.record
        undecided = self._overdue(record.paused_at)
        approved = isinstance(self.step, Pause) and self.step.seconds is None
        pause = now - record.paused_at
        self._note(now, how)
        self._set(
            paused=False,
            waited=record.waited + pause,
            step_since=record.step_since + pause,
            reason="",
        )
        if self._deadline() <= now:  # it was paused by the deadline: whoever resumes grants it anew
            self._set(waited=now - record.started)
        if self.record.phase is Phase.PROGRESSING and (undecided or approved):
            self._go_on(now)

    def promote(self, now: float, why: str) -> None:
        """Skip what is left."""
        self._move(RolloutInput.PROMOTE, now, why)
        self._set(step=len(self.record.plan.steps), reason=why, paused=False)

    def end(self, given: RolloutInput, now: float, why: str, *, unloaded: bool = False) -> None:
        """It is over: succeeded, rolled back or superseded."""
        promoted = self.record.reason if self.record.phase is Phase.PROMOTING else ""
        self._move(given, now, why)
        flipped = given is RolloutInput.FLIP
        reason = f"{promoted}; {why}" if promoted and flipped else why
        weight = WHOLE if flipped else 0
        self._set(weight=weight, shadow=0, ended=now, reason=reason, paused=False, unloaded=unloaded)

    def retry(self, now: float, how: str) -> None:
        """Begin again, with nothing seen yet. `how` is for the timeline."""
        self._move(RolloutInput.RETRY, now, how)
        self._set(started=now, ended=None, waited=0.0, step=0, step_since=now, warmed=False, reason="", checks=())
        self._set(unloaded=False)
        self.active, self.target = Window(), Window()
        self._since_step = (Window(), Window())
        self._asked.clear()
        self._answers.clear()
        self._bad.clear()

    # --- what it does by itself --------------------------------------------------------------------------------------

    def judge(self, now: float) -> str | None:
        """Look at the checks and the deadline. The reason if it must be rolled back, otherwise None."""
        return self._judge_all(now) or self._watch_deadline(now)

    def advance(self, now: float) -> str | None:
        """Go through the steps as far as that is possible now. The reason if it must be rolled back, otherwise None."""
        while self.goes_on_in(Phase.PROGRESSING):
            step = self.step
            if step is None:
                return self._decide(now)
            match step:
                case SetWeight() | SetShadow():
                    self._begin_step(self.record.step + 1, now)
                case Pause(seconds):
                    if seconds is None:
                        self.pause(now, f"step {self.record.step + 1} waits for approval")
                    elif now < self.record.step_since + seconds:
                        break
                    else:
                        self._begin_step(self.record.step + 1, now)
                case Analyse():
                    failed = self._analyse(step, now)
                    if failed is not None:
                        return failed
                    if self.step is step:
                        break
                case _:
                    assert_never(step)
        return None

    def due_checks(self, now: float) -> Iterator[Check]:
        """Checks the outside is to be asked about now; each is then asked again after its interval."""
        for check in self._outside():
            if now >= self._asked.get(check.name, -math.inf) + check.interval:
                self._asked[check.name] = now
                yield check

    def next_due(self) -> float:
        """When it must be looked at again although nothing happens; infinite if never."""
        due = math.inf
        if self.live and not self.record.paused:
            due = self._deadline()
        step = self.step if not self.record.paused else None
        if isinstance(step, Pause | Analyse) and step.seconds is not None:
            due = min(due, self.record.step_since + step.seconds)
        elif self._all_done and self.goes_on_in(Phase.PROGRESSING):
            due = min(due, self.record.step_since + DECIDE_SECONDS)
        asked = (self._asked.get(check.name, -math.inf) + check.interval for check in self._outside())
        return min(due, min(asked, default=math.inf))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _checks(self) -> tuple[Check, ...]:
        step = self.step
        return (*self.record.plan.checks, *(step.checks if isinstance(step, Analyse) else ()))

    def _outside(self) -> Iterator[Check]:
        stepping = self.record.warmed and self.record.phase is Phase.PROGRESSING
        return (check for check in self._checks() if stepping and check.metric not in MEASURED)

    def _judge_all(self, now: float) -> str | None:
        """Judge the checks that hold all along. Why it must be rolled back, if it must."""
        if not (self.record.warmed and self.live):
            return None
        step = self.step
        results = [self._judge(check, (self.active, self.target), now) for check in self.record.plan.checks]
        if isinstance(step, Analyse):
            results += [self._judge(check, self._since_step, now) for check in step.checks]
        self._show(list({result.name: result for result in results}.values()))
        failed = next((result for result in results if result.verdict is Verdict.FAIL), None)
        return f"check {failed.name} failed: {failed.message or 'it is broken'}" if failed else None

    def _judge(self, check: Check, windows: tuple[Window, Window], now: float) -> CheckResult:
        if check.metric in MEASURED:
            return judge(check, *windows, now)
        return self._answers.get(check.name) or CheckResult(
            check.name, Verdict.WAITING, message="not answered yet", at=now
        )

    def _show(self, results: list[CheckResult]) -> None:
        """Keep results; only verdicts that change are worth a write."""
        before = {result.name: result.verdict for result in self.record.checks}
        if {result.name: result.verdict for result in results} != before:
            self.dirty = True
        self.record = replace(self.record, checks=tuple(results))

    def _decide(self, now: float) -> str | None:
        """All steps are done. Where there are requests to judge by, the checks must have been decided too."""
        results = [self._judge(check, (self.active, self.target), now) for check in self.record.plan.checks]
        undecided = [result.name for result in results if result.verdict is not Verdict.PASS]
        if not undecided or not (self.target.requests or (self.divides and self.active.requests)):
            self._move(RolloutInput.STEPPED, now, "all steps are done")
            return None
        if now < self.record.step_since + DECIDE_SECONDS:
            return None
        return self._undecided(undecided, f"undecided {DECIDE_SECONDS:g} s after the last step", now)

    def _analyse(self, step: Analyse, now: float) -> str | None:
        results = [self._judge(check, self._since_step, now) for check in step.checks]
        undecided = [result.name for result in results if result.verdict is not Verdict.PASS]
        if not undecided:
            self._begin_step(self.record.step + 1, now)
            return None
        if not self._overdue(now):
            return None
        return self._undecided(undecided, f"step {self.record.step + 1}: undecided after {step.seconds:g} s", now)

    def _undecided(self, undecided: list[str], what: str, now: float) -> str | None:
        """There is no more time to decide these checks: what the plan says of that. Why it is rolled back, if it is."""
        why = f"{what}: {', '.join(undecided)}"
        self._set(
            checks=tuple(
                replace(result, verdict=Verdict.INCONCLUSIVE) if result.name in undecided else result
                for result in self.record.checks
            )
        )
        match self.record.plan.on_inconclusive:
            case Otherwise.ROLL_BACK:
                return why
            case Otherwise.PAUSE:
                self.pause(now, why)
            case Otherwise.CONTINUE:
                self._note(now, f"{why}; it goes on")
                self._go_on(now)
        return None

    def _overdue(self, now: float) -> bool:
        """Whether the time to decide checks is over."""
        step = self.step
        seconds = step.seconds if isinstance(step, Analyse) else DECIDE_SECONDS
        deciding = isinstance(step, Analyse) or self._all_done
        return deciding and now >= self.record.step_since + seconds

    @property
    def _all_done(self) -> bool:
        return self.record.warmed and self.record.step >= len(self.record.plan.steps)

    def _go_on(self, now: float) -> None:
        """Leave what is undecided, or was approved, behind."""
        if self._all_done:
            self._move(RolloutInput.STEPPED, now, "all steps are done")
        else:
            self._begin_step(self.record.step + 1, now)

    def _deadline(self) -> float:
        return self.record.started + self.record.waited + self.record.plan.deadline

    def _watch_deadline(self, now: float) -> str | None:
        if not self.live or self.record.paused or now < self._deadline():
            return None
        why = f"not done after {self.record.plan.deadline:g} s, its deadline"
        if self.record.plan.on_deadline is Otherwise.PAUSE:
            self.pause(now, why)
            return None
        return why

    def _begin_step(self, number: int, now: float) -> None:
        steps = self.record.plan.steps
        self._set(step=number, step_since=now)
        self._since_step = (Window(), Window())
        if number >= len(steps):
            return
        step = steps[number]
        if isinstance(step, SetWeight):
            self._set(weight=step.weight)
            self._note(now, f"weight {step.weight / 10:g}%")
        elif isinstance(step, SetShadow):
            self._set(shadow=step.share)
            self._note(now, f"shadows {step.share / 10:g}%")
        elif isinstance(step, Analyse):
            for check in step.checks:
                self._answers.pop(check.name, None)

    def _move(self, given: RolloutInput, now: float, what: str) -> None:
        self._set(phase=next_phase(self.record.phase, given))
        self._note(now, what)

    def _note(self, now: float, what: str) -> None:
        timeline = (*self.record.timeline, TimelineEvent(now, what))
        if len(timeline) > MAX_TIMELINE:
            timeline = (timeline[0], *timeline[-MAX_TIMELINE + 1 :])
        self._set(timeline=timeline)

    def _set(self, **changes: object) -> None:
        self.record = replace(self.record, **changes)  # type: ignore[arg-type]
        self.dirty = True

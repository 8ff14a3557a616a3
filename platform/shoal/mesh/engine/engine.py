"""Runs the core: one event at a time in, its actions carried out in order, time handed in as an event."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

from shoal.core.actions import (
    Action,
    Answer,
    AskCheck,
    CancelLoad,
    Changed,
    Drain,
    Forward,
    Load,
    Persist,
    PersistRollout,
    PersistSuspicion,
    PodDrained,
    Prefetch,
    PublishRoutes,
    Reject,
    Unload,
    WarmUpCopies,
)
from shoal.core.core import Core
from shoal.core.events import Event, RequestAbandoned, RequestWaiting, Tick
from shoal.core.types import PodId, RevisionId, RouteKey, Ticket
from shoal.mesh.engine.faults import Faults
from shoal.registry.protocol import FencedError, RegistryError

log = logging.getLogger(__name__)

LOOK_AGAIN: Final = 0.5
"""Seconds after an error in the core until it is asked for what it had decided before it broke."""
MOST_AT_ONCE: Final = 100
"""The most events in a row whose changes are made durable together."""
SAVE_AGAIN: Final = 5.0
"""Seconds after which a registry that did not take a record is tried again."""


@dataclass(slots=True)
class _Step:
    """An event, whoever waits for it, and what the core answered."""

    event: Event
    done: asyncio.Future[None] | None
    actions: Sequence[Action] = ()

    @property
    def durable(self) -> list[Persist | PersistRollout]:
        """What has to be made durable first."""
        return [action for action in self.actions if isinstance(action, Persist | PersistRollout)]


class Executor(Protocol):
    """Carries out what the core asks for. Everything but persisting only starts the work."""

    async def persist(self, actions: Sequence[Persist | PersistRollout]) -> None:
        """Make durable before returning, what concerns one endpoint as one, and what could not be made so before.

        Raises:
            RegistryError: not all of it; what is left is tried again with the next call.
        """

    def load(self, pod: PodId, revision: RevisionId) -> None:
        """Start a load."""

    def prefetch(self, pod: PodId, revision: RevisionId) -> None:
        """Start fetching the files of a load that waits for space."""

    def cancel_load(self, pod: PodId, revision: RevisionId) -> None:
        """Give up a load, or what is fetched for one that waits."""

    def unload(self, pod: PodId, revision: RevisionId) -> None:
        """Start an unload."""

    def drain(self, pod: PodId, revision: RevisionId) -> None:
        """Start waiting for requests in flight."""

    def publish(self, action: PublishRoutes) -> None:
        """Hand routes to the gateways."""

    def warm_up(self, action: WarmUpCopies) -> None:
        """Start sending sample requests."""

    def ask_check(self, action: AskCheck) -> None:
        """Start asking a server outside."""

    def keep_suspicion(self, action: PersistSuspicion) -> None:
        """Start making durable what a model is charged with."""

    def pod_drained(self, pod: PodId) -> None:
        """Let the pod stop."""

    def changed(self, action: Changed) -> None:
        """Tell whoever shows status."""


class Engine:
    """The core with a clock and a queue.

    Args:
        core: decides.
        check_invariants: verify the core's invariants after every event, and log what is broken.
        clock: seconds since 1970.
    """

    def __init__(self, core: Core, *, check_invariants: bool = False, clock: Callable[[], float] = time.time) -> None:
        self.core = core
        self._check = check_invariants
        self._clock = clock
        self._events: asyncio.Queue[tuple[Event, asyncio.Future[None] | None]] = asyncio.Queue()
        self._tickets: dict[Ticket, tuple[asyncio.Future[Forward | Reject], Callable[[Forward], None]]] = {}
        self._next_ticket = 1
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_due = 0.0
        self._unsaved = False
        self._save_again: asyncio.TimerHandle | None = None
        self._look_again: asyncio.TimerHandle | None = None
        self._over: FencedError | None = None
        self.faults = Faults(clock)
        """Errors in the core, and of whoever carries out what it asks for."""

    def now(self) -> float:
        """The time events happen at."""
        return self._clock()

    def submit(self, event: Event) -> None:
        """Tell the core; what follows happens soon."""
        self._events.put_nowait((event, None))

    async def apply(self, event: Event) -> None:
        """Tell the core and wait until the actions that follow are started, and the durable ones done.

        Raises:
            RegistryError: they are not durable yet; the event was handled all the same.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._events.put_nowait((event, done))
        await done

    async def copy_for(
        self,
        key: RouteKey,
        exclude: frozenset[PodId],
        timeout: float,
        chosen: Callable[[Forward], None],
        *,
        tried: bool = False,
    ) -> Forward | Reject:
        """A copy that can serve `key`, loaded if need be.

        Args:
            key: what the request names.
            exclude: pods it was forwarded to in vain.
            timeout: seconds it waits.
            chosen: called in the step in which the copy is chosen, before anything else is carried out that waits for
                requests under way there: the copy may be on its way out already. Also where this raises afterwards.
            tried: a copy that went away left the request unanswered.

        Raises:
            TimeoutError: none within `timeout` seconds. The load goes on.
        """
        ticket = Ticket(self._next_ticket)
        self._next_ticket += 1
        answer: asyncio.Future[Forward | Reject] = asyncio.get_running_loop().create_future()
        self._tickets[ticket] = (answer, chosen)
        self.submit(RequestWaiting(ticket, key, exclude, tried, timeout))
        try:
            async with asyncio.timeout(timeout):
                return await answer
        finally:
            if self._tickets.pop(ticket, None) is not None:
                self.submit(RequestAbandoned(ticket))

    def stand_down(self, error: FencedError) -> None:
        """Carry out nothing any more, as another mesh commands now; `error` is what whoever waits is told."""
        self._over = error

    async def run(self, executor: Executor) -> None:
        """Handle events until cancelled; `executor` does what the core asks for."""
        try:
            while True:
                steps = [self._decide(*await self._events.get())]
                while steps[0].durable and len(steps) < MOST_AT_ONCE and not self._events.empty():
                    steps.append(self._decide(*self._events.get_nowait()))
                try:
                    unsaved = await self._make_durable(steps, executor)
                except Exception as error:
                    for step in steps:
                        self._broke(step, error)
                    continue
                for step in steps:
                    self._finish(step, executor, unsaved if step.durable or not steps[0].durable else None)
                self._set_alarm(self._clock())
        finally:
            for timer in (self._alarm, self._save_again, self._look_again):
                if timer:
                    timer.cancel()

    def _decide(self, event: Event, done: asyncio.Future[None] | None) -> _Step:
        """What the core says to an event; nothing if that breaks it."""
        step = _Step(event, done)
        try:
            step.actions = self.core.handle(event, self._clock())
        except Exception as error:
            self._broke(step, error)
            return step
        if self._check:
            try:
                self.core.check_invariants()
            except Exception as error:
                log.exception("an invariant is broken after %r", event)
                self.faults.note(f"an invariant is broken after {type(event).__name__}", error)
        return step

    def _broke(self, step: _Step, error: Exception) -> None:
        name = type(step.event).__name__
        log.error("event failed: %s", name, exc_info=error)
        self.faults.note(f"{name} broke the core", error)
        self._look_again_soon()
        if step.done and not step.done.done():
            step.done.set_exception(error)

    async def _make_durable(self, steps: Sequence[_Step], executor: Executor) -> RegistryError | None:
        """Make durable together what several events in a row change, before anything else that follows from them.

        What went wrong if it could not be: then the rest is done nevertheless, for requests matter more than what a
        restart in just that moment would forget.
        """
        if self._over:
            return self._over
        durable = [action for step in steps for action in step.durable]
        again = self._unsaved and (self._save_again is None or any(step.done for step in steps))
        return await self._persist(durable, executor) if durable or again else None

    def _finish(self, step: _Step, executor: Executor, unsaved: RegistryError | None) -> None:
        for action in () if self._over else step.actions:
            try:
                self._carry_out(action, executor)
            except Exception as error:  # the others of this step, such as its routes, must not be lost with it
                log.exception("action failed: %s", type(action).__name__)
                self.faults.note(f"{type(action).__name__} could not be carried out", error)
        unsaved = self._over or unsaved
        if step.done and not step.done.done():
            step.done.set_exception(unsaved) if unsaved else step.done.set_result(None)

    async def _persist(self, actions: Sequence[Persist | PersistRollout], executor: Executor) -> RegistryError | None:
        try:
            await executor.persist(actions)
        except FencedError as error:
            self.stand_down(error)
            return error
        except RegistryError as error:
            log.error("not durable yet, to be tried again in %g s: %s", SAVE_AGAIN, error)  # noqa: TRY400
            self._unsaved = True
            if self._save_again is None:
                self._save_again = asyncio.get_running_loop().call_later(SAVE_AGAIN, self._ring_to_save)
            return error
        self._unsaved = False
        return None

    def _look_again_soon(self) -> None:
        if self._look_again is None:
            self._look_again = asyncio.get_running_loop().call_later(LOOK_AGAIN, self._ring_to_look)

    def _ring_to_look(self) -> None:
        self._look_again = None
        self.submit(Tick())

    def _ring_to_save(self) -> None:
        self._save_again = None
        self.submit(Tick())

    def _carry_out(self, action: Action, executor: Executor) -> None:
        match action:
            case WarmUpCopies():
                executor.warm_up(action)
            case AskCheck():
                executor.ask_check(action)
            case Load(pod, revision):
                executor.load(pod, revision)
            case Prefetch(pod, revision):
                executor.prefetch(pod, revision)
            case CancelLoad(pod, revision):
                executor.cancel_load(pod, revision)
            case Unload(pod, revision):
                executor.unload(pod, revision)
            case Drain(pod, revision):
                executor.drain(pod, revision)
            case PublishRoutes():
                executor.publish(action)
            case Answer(ticket, result):
                answer, chosen = self._tickets.pop(ticket, (None, None))
                if answer and chosen and not answer.done():
                    if isinstance(result, Forward):
                        chosen(result)
                    answer.set_result(result)
            case PodDrained(pod):
                executor.pod_drained(pod)
            case Changed():
                executor.changed(action)
            case PersistSuspicion():
                executor.keep_suspicion(action)
            case Persist() | PersistRollout():
                pass  # done before anything else
            case _:
                assert_never(action)

    def _set_alarm(self, now: float) -> None:
        due = self.core.next_due(now)
        if self._alarm:
            if due is not None and due == self._alarm_due and not self._alarm.cancelled():
                return
            self._alarm.cancel()
            self._alarm = None
        if due is not None:
            self._alarm_due = due
            delay = max(0.001, due - now)
            self._alarm = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.submit(Tick())

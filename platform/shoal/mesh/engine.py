"""Runs the core: one event at a time in, its actions carried out in order, time handed in as an event."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
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
    PublishRoutes,
    Reject,
    Unload,
    WarmUpCopies,
)
from shoal.core.core import Core
from shoal.core.events import Event, RequestAbandoned, RequestWaiting, Tick
from shoal.core.types import PodId, RevisionId, RouteKey, Ticket
from shoal.mesh.faults import Faults
from shoal.registry.protocol import RegistryError

log = logging.getLogger(__name__)

LOOK_AGAIN: Final = 0.5
"""Seconds after an error in the core until it is asked for what it had decided before it broke."""
SAVE_AGAIN: Final = 5.0
"""Seconds after which a registry that did not take a record is tried again."""


class Executor(Protocol):
    """Carries out what the core asks for. Everything but persisting only starts the work."""

    async def persist(self, actions: Sequence[Persist | PersistRollout]) -> None:
        """Make durable before returning, what concerns one endpoint as one, and what could not be made so before.

        Raises:
            RegistryError: not all of it; what is left is tried again with the next call.
        """

    def load(self, pod: PodId, revision: RevisionId) -> None:
        """Start a load."""

    def cancel_load(self, pod: PodId, revision: RevisionId) -> None:
        """Give up a load."""

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
        self._tickets: dict[Ticket, asyncio.Future[Forward | Reject]] = {}
        self._next_ticket = 1
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_due = 0.0
        self._unsaved = False
        self._save_again: asyncio.TimerHandle | None = None
        self._look_again: asyncio.TimerHandle | None = None
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
        self, key: RouteKey, exclude: frozenset[PodId], timeout: float, *, tried: bool = False
    ) -> Forward | Reject:
        """A copy that can serve `key`, loaded if need be. `tried`: a copy that went away left the request unanswered.

        Raises:
            TimeoutError: none within `timeout` seconds. The load goes on.
        """
        ticket = Ticket(self._next_ticket)
        self._next_ticket += 1
        answer: asyncio.Future[Forward | Reject] = asyncio.get_running_loop().create_future()
        self._tickets[ticket] = answer
        self.submit(RequestWaiting(ticket, key, exclude, tried, timeout))
        try:
            return await asyncio.wait_for(answer, timeout)
        finally:
            if self._tickets.pop(ticket, None) is not None:
                self.submit(RequestAbandoned(ticket))

    async def run(self, executor: Executor) -> None:
        """Handle events until cancelled; `executor` does what the core asks for."""
        try:
            while True:
                event, done = await self._events.get()
                try:
                    unsaved = await self._handle(event, executor, waited=done is not None)
                except Exception as error:
                    log.exception("event failed: %s", type(event).__name__)
                    self.faults.note(f"{type(event).__name__} broke the core", error)
                    self._look_again_soon()
                    if done and not done.done():
                        done.set_exception(error)
                else:
                    if done and not done.done():
                        done.set_exception(unsaved) if unsaved else done.set_result(None)
        finally:
            for timer in (self._alarm, self._save_again, self._look_again):
                if timer:
                    timer.cancel()

    async def _handle(self, event: Event, executor: Executor, *, waited: bool) -> RegistryError | None:
        """Carry out what follows from an event. What went wrong if it could not be made durable: then the rest is done
        nevertheless, for requests matter more than what a restart in just that moment would forget."""
        now = self._clock()
        actions = self.core.handle(event, now)
        durable = [action for action in actions if isinstance(action, Persist | PersistRollout)]
        again = self._unsaved and (waited or self._save_again is None)
        unsaved = await self._persist(durable, executor) if durable or again else None
        for action in actions:
            try:
                self._carry_out(action, executor)
            except Exception as error:  # the others of this step, such as its routes, must not be lost with it
                log.exception("action failed: %s", type(action).__name__)
                self.faults.note(f"{type(action).__name__} could not be carried out", error)
        if self._check:
            try:
                self.core.check_invariants()
            except Exception as error:
                log.exception("an invariant is broken after %r", event)
                self.faults.note(f"an invariant is broken after {type(event).__name__}", error)
        self._set_alarm(now)
        return unsaved

    async def _persist(self, actions: Sequence[Persist | PersistRollout], executor: Executor) -> RegistryError | None:
        try:
            await executor.persist(actions)
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
            case CancelLoad(pod, revision):
                executor.cancel_load(pod, revision)
            case Unload(pod, revision):
                executor.unload(pod, revision)
            case Drain(pod, revision):
                executor.drain(pod, revision)
            case PublishRoutes():
                executor.publish(action)
            case Answer(ticket, result):
                waiting = self._tickets.pop(ticket, None)
                if waiting and not waiting.done():
                    waiting.set_result(result)
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

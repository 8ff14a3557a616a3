"""Every number the core decides by, in one place, with its unit, its default and the reason for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """What tunes the core's decisions. Times are seconds, rates are requests per minute, sizes are bytes.

    Raises:
        ValueError: a setting is out of range; the message names it and the fix.
    """

    # --- loading ---
    load_attempts: int = 3
    """Pods a revision is tried on before its waiting requests fail. As ModelMesh: enough to rule out one bad pod."""
    failure_expiry: float = 900.0
    """How long a failed load is remembered when nobody asks for it (ModelMesh: `MM_LOAD_FAILURE_EXPIRY_TIME_MS`)."""
    failure_expiry_asked: float = 450.0
    """The same when it was asked for within `failure_asked_window`: someone is waiting for it to heal."""
    failure_asked_window: float = 180.0
    """How recent a request must be for the shorter expiry."""
    pod_failure_pause: float = 5.0
    """How long a pod that could not do a load (`counts=False`) is not asked again for that revision."""
    pod_failure_attempts: int = 6
    """How many such failures in a row before waiting requests are told UNAVAILABLE."""
    max_prefetches: int = 2
    """Loads of a pod that wait for space while their files are fetched already: bounds what that takes of its disk."""
    max_waiting: int = 10_000
    """Requests that may wait in all; more are answered RESOURCE_EXHAUSTED. Bounds memory in a storm."""
    max_waiting_per_revision: int = 1_000
    """Requests that may wait for one revision, so that one hot model cannot take every place."""

    # --- models that bring servers down ---
    deaths_before_quarantine: int = 2
    """How many model servers are lost while they are busy with a model before it is quarantined."""
    cause_timeout: float = 5.0
    """How long after the loss of a server its suspects wait for word of how it ended; then it counts as a crash."""
    suspect_patience: float = 15.0
    """The longest a suspect waits for others to be loaded again before it is its turn."""
    suspect_proof: float = 60.0
    """How long a suspect is loaded, alone and once, before it is loaded like any other."""
    charge_expiry: float = 3600.0
    """How long a charge is remembered."""
    quarantine: float = 1800.0
    """How long a model is quarantined the first time; then it may be tried on one pod. Doubled each time ..."""
    quarantine_limit: float = 21_600.0
    """... up to this."""

    # --- memory ---
    headroom_fraction: float = 0.03
    """Part of a pod's capacity kept free ahead of need (at least a default model size), so that a load seldom waits."""
    headroom_limit: float = 0.125
    """The most of a pod that headroom may take: with ten models a pod it costs at most one of them."""
    headroom_idle: float = 60.0
    """Headroom is made by evicting copies unused for this long, so that a working set that just fits stays ..."""
    reserve_rest: int = 4
    """... and, after a load that a request waited for, by evicting the coldest for the next one. A pod whose eviction
    was in vain, as the evicted model was asked for next, does without for so many such loads: a working set that just
    fits loses one copy at most once in as many."""

    # --- leaving ---
    routes_ack_timeout: float = 30.0
    """The longest wait for gateways to acknowledge a withdrawal. The mesh cuts stuck gateways off well before."""
    drain_timeout: float = 60.0
    """The longest wait for requests in flight to a withdrawn copy before it is unloaded regardless."""
    unload_retry: float = 10.0
    """Pause before a failed unload is asked again, as ModelMesh."""
    pod_drain_timeout: float = 60.0
    """The longest a pod that shall stop keeps serving while its models are loaded elsewhere; below Kubernetes' 90 s."""
    recent_use: float = 3600.0
    """Copies used this recently are worth re-loading elsewhere when their pod leaves, as ModelMesh's migration."""
    join_pause: float = 1.0
    """How long after the first pod of a runtime reports the others are given to report too, before anything but waiting
    requests is loaded: after a restart of the mesh, the models may be loaded there."""
    reload_burst: int = 50
    """The most loads started at once because a pod left or joined, so that requests are not stuck behind them."""
    max_preload: int = 10_000
    """The most revisions remembered as wanted when a pod of their runtime joins."""

    # --- copies ---
    second_copy_min_age: float = 420.0
    """A model used now and also between this ... long ago is in steady use and gets a second copy."""
    second_copy_max_age: float = 2400.0
    """... and this long ago."""
    scale_up_rpm: float = 2000.0
    """Load of one copy above which more copies are made, as ModelMesh's `MM_SCALEUP_RPM_THRESHOLD`."""
    strained_pressure: float = 0.7
    """A machine where something waits for a processor for this share of the time is full: no copies are added for load
    there, as they would take the time from those that are there."""
    rate_window: float = 10.0
    """Requests are counted this long before a rate is computed."""
    scaling_interval: float = 10.0
    """How often headroom, surplus copies and unmet wishes are looked at."""
    looks_at_once: int = 200
    """The most revisions with several copies that such a look examines, and of each runtime the most that lack required
    copies: the others have their turn at the next look, so that requests never wait long for one."""
    short_of_space: float = 0.05
    """A runtime whose pods have less than this part free is short of space; then surplus copies go."""
    surplus_idle: float = 600.0
    """An idle second copy is surplus after this long without use, if space is short."""
    surplus_settle: float = 600.0
    """No copy is removed as surplus this soon after a load demanded more copies, so that scaling does not oscillate."""
    match_scale_timeout: float = 60.0
    """The longest a loaded target waits for its further copies before routes flip to it."""

    # --- records ---
    decisions_per_revision: int = 20
    """Decisions remembered of one revision."""
    decisions: int = 10_000
    """Decisions remembered in all; the oldest go first."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0, not {getattr(self, name)}")
        if self.headroom_limit >= 1 or self.headroom_fraction > self.headroom_limit:
            raise ValueError("headroom_fraction must not exceed headroom_limit, which must be below 1")
        if self.failure_expiry_asked > self.failure_expiry:
            raise ValueError("failure_expiry_asked must not exceed failure_expiry")
        if self.second_copy_min_age >= self.second_copy_max_age:
            raise ValueError("second_copy_min_age must be less than second_copy_max_age")

"""Choosing the runtime for a model: by explicit name, or by format, version and protocol among those with autoSelect.

ModelMesh Serving compared label sets and let any matching pod take the model: versions had to be equal, priority
was ignored, and a mismatch said nothing more than that. Here one runtime is chosen; when none fits, the answer opens
with upstream's message and gives each runtime's reason. A runtime that is named gets the model as upstream, also if it
does not list the format: then there is a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from shoal.resources.servingruntime import ServingRuntime, SupportedModelFormat
from shoal.resources.source import ModelSource

NO_SUPPORTING_RUNTIME = "No ServingRuntime supports specified model type and/or protocol"
RUNTIME_NOT_RECOGNIZED = "Specified runtime name not recognized"
_MAX_LISTED = 12
_DISABLED = "is disabled"


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a model asks of a runtime. `format` is None when only a runtime's name is known (`rt:` type strings)."""

    format: str | None = None
    version: str | None = None
    protocol: str | None = None
    runtime: str | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The runtime a model is given to."""

    runtime: str
    cluster_wide: bool
    because: str
    warning: str = ""
    """What does not fit although the runtime was named; empty if all fits."""


@dataclass(frozen=True, slots=True)
class NoRuntime:
    """Why no runtime can take a model."""

    reason: Literal["NoSupportingRuntime", "RuntimeNotRecognized"]
    message: str
    rejected: tuple[tuple[str, str], ...] = ()
    """Each runtime's name with why it does not fit."""


def requirements_of(model: ModelSource) -> Requirements:
    """What the model of an InferenceService asks for."""
    return Requirements(model.format, model.version, model.protocol, model.runtime)


def requirements_from_type(text: str) -> Requirements:
    """What a type string of `mmesh.ModelInfo` asks for: `rt:NAME`, or `[mt:]FORMAT[:VERSION][|pv:PROTOCOL]`."""
    first, *labels = text.split("|")
    if first.startswith("rt:"):
        return Requirements(runtime=first.removeprefix("rt:"))
    form, _, version = first.removeprefix("mt:").partition(":")
    protocols = [label.removeprefix("pv:") for label in labels if label.startswith("pv:")]
    return Requirements(form, version or None, protocols[0] if protocols else None)


def visible(runtimes: Iterable[ServingRuntime]) -> list[ServingRuntime]:
    """The runtimes that count in a namespace: a ServingRuntime hides a ClusterServingRuntime of the same name."""
    by_name: dict[str, ServingRuntime] = {}
    for runtime in runtimes:
        if runtime.name not in by_name or by_name[runtime.name].cluster_wide:
            by_name[runtime.name] = runtime
    return [by_name[name] for name in sorted(by_name)]


def choose(wanted: Requirements, runtimes: Iterable[ServingRuntime]) -> Chosen | NoRuntime:
    """The runtime for a model.

    Of those that fit, the closest declared version wins, then the highest priority, then a ServingRuntime before a
    ClusterServingRuntime, then the name.
    """
    candidates = visible(runtimes)
    if wanted.runtime is not None:
        return _explicit(wanted, wanted.runtime, candidates)
    fitting: list[tuple[tuple[int, int, bool], ServingRuntime]] = []
    rejected: list[tuple[str, str]] = []
    for runtime in candidates:
        rank = _rank(wanted, runtime)
        if isinstance(rank, str):
            rejected.append((runtime.name, rank))
        else:
            fitting.append((rank, runtime))
    if not fitting:
        return NoRuntime("NoSupportingRuntime", _message(NO_SUPPORTING_RUNTIME, wanted, rejected), tuple(rejected))
    rank, best = max(fitting, key=lambda found: found[0])
    others = ", ".join(runtime.name for _, runtime in fitting if runtime is not best)
    because = f"{_wants(wanted)} fits" + (f"; preferred over {others}" if others else "")
    return Chosen(best.name, best.cluster_wide, because)


def _explicit(wanted: Requirements, name: str, candidates: list[ServingRuntime]) -> Chosen | NoRuntime:
    runtime = next((candidate for candidate in candidates if candidate.name == name), None)
    if runtime is None or not runtime.multi_model:
        known = ", ".join(candidate.name for candidate in candidates if candidate.multi_model) or "none"
        detail = f"{name!r} does not exist" if runtime is None else f"{name!r} has not spec.multiModel: true"
        return NoRuntime("RuntimeNotRecognized", f"{RUNTIME_NOT_RECOGNIZED}: {detail}; runtimes here: {known}")
    if runtime.spec.disabled:
        message = f"{NO_SUPPORTING_RUNTIME}: {_wants(wanted)}, but the specified runtime {name} {_DISABLED}"
        return NoRuntime("NoSupportingRuntime", message, ((name, _DISABLED),))
    why = _mismatch(wanted, runtime)
    warning = (
        f"the model has {_wants(wanted)}, but the specified runtime {name} {why}: it may fail to load" if why else ""
    )
    return Chosen(runtime.name, runtime.cluster_wide, "specified by name", warning)


def _rank(wanted: Requirements, runtime: ServingRuntime) -> tuple[int, int, bool] | str:
    """How well a runtime fits (more is better), or why it does not."""
    if (why := _unfit(wanted, runtime)) is not None:
        return why
    entries = [entry for entry in _matching(wanted, runtime) if entry.auto_select]
    if not entries:
        return f"has not autoSelect: true for {wanted.format} and must be named by spec.predictor.model.runtime"
    closeness, priority = max((_closeness(wanted.version, entry.version), entry.priority or 0) for entry in entries)
    return closeness, priority, not runtime.cluster_wide


def _unfit(wanted: Requirements, runtime: ServingRuntime) -> str | None:
    """Why a runtime cannot be chosen for a model by its format; None if it can."""
    if not runtime.multi_model:
        return "has not spec.multiModel: true"
    return _DISABLED if runtime.spec.disabled else _mismatch(wanted, runtime)


def _mismatch(wanted: Requirements, runtime: ServingRuntime) -> str | None:
    """What of a model a runtime does not say that it serves."""
    spec = runtime.spec
    if wanted.format is not None:
        of_format = [entry for entry in spec.supported_model_formats if entry.name == wanted.format]
        if not of_format:
            formats = sorted({entry.name for entry in spec.supported_model_formats})
            return f"serves the formats {', '.join(formats) or 'none'}"
        if not _matching(wanted, runtime):
            versions = ", ".join(repr(entry.version) for entry in of_format)
            return f"serves {wanted.format} in version {versions}"
    if wanted.protocol and wanted.protocol not in (spoken := protocols(runtime)):
        return f"speaks the protocols {', '.join(sorted(spoken)) or 'none'}"
    return None


def protocols(runtime: ServingRuntime) -> frozenset[str]:
    """The protocols its models can be reached by. The gateway always offers REST, so grpc-v2 brings v2 along."""
    declared = frozenset(runtime.spec.protocol_versions)
    return declared | {"v2"} if "grpc-v2" in declared else declared


def _matching(wanted: Requirements, runtime: ServingRuntime) -> list[SupportedModelFormat]:
    return [
        entry
        for entry in runtime.spec.supported_model_formats
        if entry.name == wanted.format and _closeness(wanted.version, entry.version) >= 0
    ]


def _closeness(wanted: str | None, declared: str | None) -> int:
    """How many parts of the version agree; -1: it does not fit. "1.15" fits "1", and everything fits no version."""
    if wanted is None or declared is None:
        return 0
    wanted_parts, declared_parts = wanted.split("."), declared.split(".")
    return len(declared_parts) if wanted_parts[: len(declared_parts)] == declared_parts else -1


def _wants(wanted: Requirements) -> str:
    version = f" version {wanted.version!r}" if wanted.version else ""
    protocol = f" over {wanted.protocol}" if wanted.protocol else ""
    return f"format {wanted.format!r}{version}{protocol}"


def _message(opening: str, wanted: Requirements, rejected: list[tuple[str, str]]) -> str:
    if not rejected:
        return f"{opening}: the model has {_wants(wanted)}, and there are no runtimes"
    listed = "; ".join(f"{name} {why}" for name, why in rejected[:_MAX_LISTED])
    more = f"; and {len(rejected) - _MAX_LISTED} more" if len(rejected) > _MAX_LISTED else ""
    return f"{opening}: the model has {_wants(wanted)}, but {listed}{more}"

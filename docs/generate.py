"""Writes the parts of the documentation that the code knows best: `python docs/generate.py`, or `--check` them.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->` in the README or in a page below
`docs/`. The rest of a page is written by hand.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from shoal.cli.main import app
from shoal.core.core import Core
from shoal.core.lifecycle import copy_diagram, endpoint_diagram
from shoal.core.rollout.lifecycle import rollout_diagram
from shoal.core.settings import CoreSettings
from shoal.gateway.settings import GatewaySettings
from shoal.mesh.engine.engine import Engine
from shoal.mesh.metrics import Metrics
from shoal.mesh.pods.in_flight import InFlight
from shoal.mesh.rollout.assembly import RolloutParts
from shoal.mesh.serve.settings import MeshSettings
from shoal.resources import canary, isvcstatus, predictor, rollout, storage
from shoal.resources import inferenceservice as isvc
from shoal.resources import servingruntime as runtime
from shoal.resources import settings as config
from shoal.resources.shape import Unused
from shoal_runtime.settings import AdapterSettings

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
FIGURES = DOCS / "figures.json"
_PART = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end of (?P=name) -->)", re.DOTALL)

Parts: TypeAlias = tuple[tuple[type[BaseModel], str], ...]
"""Models of a manifest with the path of their fields."""

CONFIG_EFFECTS: Mapping[str, str] = {
    "inferenceServiceName": "Name of the gateway's Service and prefix of the runtimes' Deployments.",
    "inferenceServicePort": "gRPC port in the Service and in `status.url`.",
    "headlessService": "Whether the gateway's Service has `clusterIP: None`.",
    "podsPerRuntime": "Pods of a runtime that sets no `spec.replicas`. `shoal up --pods-per-runtime` sets it.",
    "storageSecretName": "Secret with the storage entries.",
    "tls": "`secretName` turns `restUrl` in the status into https. The gateway itself has no TLS yet.",
    "serviceAccountName": "Service account of the runtime pods.",
    "scaleToZero": "Takes the pods of a runtime that no model is given to, after the grace period. "
    "Off in the embedded cluster.",
    "restProxy": "Only `port` counts: it is shown in the Service and in the status. REST is always on.",
    "storageHelperImage": "Image and command of the adapter container.",
    "storageHelperResources": "Resources of the adapter container.",
    "runtimePodLabels": "Added to every runtime pod; the runtime's own win.",
    "runtimePodAnnotations": "Added to every runtime pod; the runtime's own win.",
    "imagePullSecrets": "Added to every runtime pod.",
    "enableAccessLogging": "One JSON object a request in the gateway's log, within ten seconds: `shoal logs gateway`.",
    "metrics": "`enabled`, `port`, `scheme`: whether, where and how the mesh serves `/metrics` for Prometheus. "
    "`perModel` (Shoal's own) labels requests, times and sizes with `modelId` and `vModelId`. Nothing is declared for "
    "a Prometheus operator: there is none on one machine.",
    "grpcMaxMessageSizeBytes": "Largest request, over gRPC and REST; 1 KiB to 1 GiB.",
}
"""Keys of model-serving-config that do something."""


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


# --- the command line ------------------------------------------------------------------------------------------------


def verbs(command: Any, path: tuple[str, ...] = ("shoal",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb with its path, such as `("shoal", "pvc", "create")`."""
    for name, sub in command.commands.items():
        if hasattr(sub, "commands"):
            yield from verbs(sub, (*path, name))
        elif not sub.hidden:
            yield (*path, name), sub


def cli() -> str:
    """All verbs with their arguments and options."""
    return "\n".join(_verb(path, command) for path, command in verbs(typer.main.get_command(app)))


def _verb(path: tuple[str, ...], command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join([*path, *(p.metavar or p.name.upper() for p in arguments), *(["[OPTIONS]"] if options else [])])
    rows = ((_names(p), _default(p), _help(p)) for p in [*arguments, *options])
    body = inspect.cleandoc(command.help or "")
    told = f"## {' '.join(path)}\n\n{body}\n\n```text\n{usage}\n```\n"
    return told + ("\n" + table(("argument or option", "default", "what it does"), rows) if command.params else "")


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    value = "" if parameter.is_flag else f" {parameter.metavar or _kind(parameter)}"
    return ", ".join(f"`{option}{value}`" for option in parameter.opts)


def _kind(parameter: Any) -> str:
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "FORM"
    return {Path: "PATH", int: "NUMBER", float: "NUMBER"}.get(kind, "TEXT")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.is_flag if hasattr(parameter, "is_flag") else False:
        return ""
    value = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
    return "" if value in (None, "", ()) else f"`{value}`"


def _help(parameter: Any) -> str:
    choices = parameter.type_descriptor.annotation
    told = [parameter.help or ""]
    if isinstance(choices, type) and issubclass(choices, Enum):
        told.append(f"One of {', '.join(choice.value for choice in choices)}.")
    if getattr(parameter, "envvar", None):
        told.append(f"Environment: `{parameter.envvar}`.")
    return " ".join(part for part in told if part)


# --- manifests -------------------------------------------------------------------------------------------------------


def _fields(model: type[BaseModel], path: str) -> Iterator[tuple[str, str]]:
    """Fields that have an effect, with their descriptions."""
    for name, field in model.model_fields.items():
        if not any(isinstance(mark, Unused) for mark in field.metadata):
            yield f"`{path}{field.alias or name}`", field.description or ""


def _ignored(*models: type[BaseModel]) -> str:
    names = {
        field.alias or name
        for model in models
        for name, field in model.model_fields.items()
        if any(isinstance(mark, Unused) for mark in field.metadata)
    }
    return ", ".join(f"`{name}`" for name in sorted(names)) + "\n"


def isvc_fields() -> str:
    """Fields of an InferenceService that count."""
    spec = "spec.predictor."
    parts: Parts = ((predictor.PredictorSpec, spec), (predictor.ModelSpec, f"{spec}model."))
    parts += ((predictor.ModelFormat, f"{spec}model.modelFormat."), (predictor.StorageSpec, f"{spec}model.storage."))
    skipped = {f"`{spec}{name}`" for name in predictor.FRAMEWORKS} | {
        f"`{spec}model.{n}`" for n in ("storage", "modelFormat")
    }
    rows = (row for model, path in parts for row in _fields(model, path) if row[0] not in skipped | {f"`{spec}model`"})
    return table(("field", "meaning"), rows)


def rollout_fields() -> str:
    """Fields of `spec.rollout` and `spec.canary`."""
    spec = "spec.rollout."
    parts: Parts = (
        (rollout.RolloutSpec, spec),
        (rollout.StepSpec, f"{spec}steps[]."),
        (rollout.PauseSpec, f"{spec}steps[].pause."),
        (rollout.AnalysisSpec, f"{spec}steps[].analysis."),
        (rollout.CheckSpec, f"{spec}checks[]."),
        (rollout.PreviewSpec, f"{spec}preview."),
        (rollout.ShadowSpec, f"{spec}shadow."),
        (rollout.WarmUpSpec, f"{spec}warmUp."),
        (canary.CanarySpec, "spec.canary[]."),
    )
    return table(("field", "meaning"), (row for model, path in parts for row in _fields(model, path) if row[1]))


def isvc_status() -> str:
    """Fields of an InferenceService's status."""
    parts: Parts = ((isvcstatus.InferenceServiceStatus, "status."), (isvcstatus.ModelStatus, "status.modelStatus."))
    parts += (
        (isvcstatus.ModelStates, "status.modelStatus.states."),
        (isvcstatus.FailureInfo, "status.modelStatus.lastFailureInfo."),
        (isvcstatus.RolloutStatus, "status.rollout."),
    )
    return table(("field", "meaning"), (row for model, path in parts for row in _fields(model, path) if row[1]))


def runtime_fields() -> str:
    """Fields of a ServingRuntime that count."""
    parts: Parts = (
        (runtime.ServingRuntimeSpec, "spec."),
        (runtime.SupportedModelFormat, "spec.supportedModelFormats[]."),
    )
    parts += ((runtime.StorageHelper, "spec.storageHelper."), (runtime.BuiltInAdapter, "spec.builtInAdapter."))
    return table(("field", "meaning"), (row for model, path in parts for row in _fields(model, path)))


def config_keys() -> str:
    """Keys of model-serving-config."""
    fields = config.ModelServingConfig.model_fields
    keys = {field.alias or name: _plain_default(field) for name, field in fields.items()}
    effects = CONFIG_EFFECTS | {key: f"None: {why}." for key, why in config.WITHOUT_EFFECT.items()}
    assert effects.keys() == keys.keys(), f"not told, or no settings: {effects.keys() ^ keys.keys()}"
    assert len(effects) == len(CONFIG_EFFECTS) + len(config.WITHOUT_EFFECT)
    rows = ((f"`{key}`", default, effects[key]) for key, default in keys.items())
    return table(("key", "default", "effect"), rows)


def _plain_default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None or value in ("", [], {}):
        return ""
    if isinstance(value, BaseModel):
        inner = value.model_dump(by_alias=True, exclude_none=True)
        return "`" + ", ".join(f"{k}: {_short(v)}" for k, v in inner.items() if v not in ("", [], {})) + "`"
    return f"`{_short(value)}`"


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_short(inner)}" for key, inner in value.items()) + "}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def storage_entries() -> str:
    """Fields of the entries of storage-config, by type."""
    kinds: Mapping[str, type[BaseModel]] = {
        "s3": storage.S3Storage,
        "http": storage.HTTPStorage,
        "pvc": storage.PVCStorage,
        "local": storage.LocalStorage,
        "gcs (not served yet)": storage.GCSStorage,
        "azure (not served yet)": storage.AzureStorage,
    }
    rows = (
        (f"{kind}", ", ".join(f"`{name}`" for name in model.model_fields if name != "type"))
        for kind, model in kinds.items()
    )
    return table(("type", "fields"), rows)


# --- settings and metrics --------------------------------------------------------------------------------------------


def _documented(owner: type) -> dict[str, str]:
    """The string that follows each field of a class: its documentation."""
    body = ast.parse(inspect.getsource(owner)).body[0]
    assert isinstance(body, ast.ClassDef)
    told: dict[str, str] = {}
    for field, after in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = " ".join(str(after.value.value).split())
        told[field.target.id] = text
    return told


def _settings(owner: type, defaults: Mapping[str, Any]) -> str:
    told = _documented(owner)
    rows = ((f"`{name}`", f"`{_value(value)}`", told.get(name, "")) for name, value in defaults.items())
    return table(("setting", "default", "meaning"), rows)


def _value(value: Any) -> str:
    if isinstance(value, BaseModel):
        return ":".join(str(part) for part in value.model_dump().values())
    return "none" if value is None else _short(value)


def core_settings() -> str:
    """What the core decides by."""
    return _settings(CoreSettings, dataclasses.asdict(CoreSettings()))


def mesh_settings() -> str:
    """What the mesh process is told."""
    return _settings(MeshSettings, dataclasses.asdict(MeshSettings()))


def gateway_settings() -> str:
    """What shapes the gateway."""
    return _settings(GatewaySettings, dict(GatewaySettings()))


def adapter_settings() -> str:
    """Environment of the adapter."""
    told = _documented(AdapterSettings)
    rows = (
        (f"`{field.validation_alias}`", f"`{_value(field.default)}`", told[name])
        for name, field in AdapterSettings.model_fields.items()
    )
    return table(("variable", "default", "meaning"), rows)


def metrics() -> str:
    """What `/metrics` exposes."""
    registry = Metrics(per_model=True).registry
    RolloutParts(Engine(Core()), {}, InFlight(), registry, lambda _: None)
    shown = registry.collect()
    types = {"unknown": "counter"}
    rows = (
        (f"`{m.name + ('_total' if m.type == 'counter' else '')}`", types.get(m.type, m.type), m.documentation)
        for m in shown
    )
    return table(("metric", "type", "meaning"), rows)


def figures(*, only_held: bool = False) -> str:
    """The table of the benchmark run kept in `figures.json`."""
    run = json.loads(FIGURES.read_text())
    rows = (
        (f"{row['group']}: {name}", _figure(row), row["beside"], _limit(row))
        for row, name in zip(run["rows"], _full_names(run["rows"]), strict=True)
        if row["limit"] or not only_held
    )
    how = "python -m bench --quick" if run["quick"] else "make bench"
    machine = f"{run['machine']['cpus']} shared cores, Python {run['machine']['python']}"
    load = f"load average {run['machine']['load']:.1f} at the end"
    told = f"Measured by `{how}` on {run['date']}: {machine}, {load}.\n\n"
    return told + table(("what", "figure", "beside it, in the same run", "must be"), rows)


def _full_names(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    """Names that can stand alone: "the same" is the last row that was not."""
    before = ""
    for row in rows:
        if not row["name"].startswith("the same"):
            before = row["name"]
        yield row["name"].replace("the same", before, 1)


def _figure(row: Mapping[str, Any]) -> str:
    unit, spread = row["unit"], row.get("spread")
    text = _digits(row["figure"]) + (f" {unit}" if unit else "")
    return f"{text} ({'-'.join(map(_digits, spread))})" if spread else text


def _digits(figure: float) -> str:
    return f"{figure:,.3g}" if figure < 1000 else f"{figure:,.0f}"


def _limit(row: Mapping[str, Any]) -> str:
    limit = row["limit"]
    if not limit:
        return ""
    holds = row["figure"] <= limit["value"] if limit["words"] == "at most" else row["figure"] >= limit["value"]
    return f"{limit['words']} {limit['value']:g}" + ("" if holds else " (missed in this run)")


def keep_figures(result: Path) -> None:
    """Keep a result of `python -m bench` for the documentation. Its name tells when it was measured."""
    stamp = result.stem
    date = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}"
    FIGURES.write_text(json.dumps({"date": date, **json.loads(result.read_text())}, indent=1) + "\n")


def _mermaid(diagram: Callable[[], str]) -> Callable[[], str]:
    return lambda: f"```mermaid\n{diagram()}```\n"


PARTS: Mapping[str, Callable[[], str]] = {
    "cli": cli,
    "copy-diagram": _mermaid(copy_diagram),
    "endpoint-diagram": _mermaid(endpoint_diagram),
    "rollout-diagram": _mermaid(rollout_diagram),
    "isvc-fields": isvc_fields,
    "rollout-fields": rollout_fields,
    "isvc-ignored": lambda: _ignored(isvc.InferenceServiceSpec, predictor.PredictorSpec, predictor.ModelSpec),
    "isvc-status": isvc_status,
    "runtime-fields": runtime_fields,
    "runtime-ignored": lambda: _ignored(runtime.ServingRuntimeSpec),
    "config-keys": config_keys,
    "storage-entries": storage_entries,
    "core-settings": core_settings,
    "mesh-settings": mesh_settings,
    "gateway-settings": gateway_settings,
    "adapter-settings": adapter_settings,
    "metrics": metrics,
    "figures": figures,
    "figures-held": lambda: figures(only_held=True),
}


def regenerated(text: str) -> str:
    """A page with its generated parts written anew.

    Raises:
        KeyError: a part's name is not known.
    """
    return _PART.sub(lambda found: f"{found[1]}\n{PARTS[found['name']]()}\n{found[3]}", text)


def main() -> int:
    """Entry point: the exit status is 1 when `--check` finds a page that is not current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something would change")
    parser.add_argument("--figures", type=Path, metavar="RESULT", help="a file of bench/results/ to show from now on")
    options = parser.parse_args()
    check = options.check
    if options.figures:
        keep_figures(options.figures)
    stale = []
    for page in [README, *sorted(DOCS.rglob("*.md"))]:
        before = page.read_text()
        after = regenerated(before)
        if after != before:
            stale.append(str(page.relative_to(README.parent)))
            if not check:
                page.write_text(after)
    print(("stale: " if check else "written: ") + ", ".join(stale) if stale else "all pages are current")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())

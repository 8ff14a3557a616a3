"""The model a predictor names, from whichever form is used: `model`, or a legacy block with annotations."""

from __future__ import annotations

from collections.abc import Mapping

from shoal.resources.predictor import FRAMEWORKS, FrameworkSpec, PredictorSpec, StorageSpec
from shoal.resources.problems import FieldProblem
from shoal.resources.source import ModelSource, SourceParts, resolve

SECRET_KEY = "serving.kserve.io/secretKey"
SCHEMA_PATH = "serving.kserve.io/schemaPath"
SERVING_RUNTIME = "serving.kserve.io/servingRuntime"


def model_of(
    predictor: PredictorSpec, notes: Mapping[str, str], at: str
) -> tuple[ModelSource | None, list[FieldProblem]]:
    """The model, and what is wrong with how it is named.

    Args:
        predictor: names it.
        notes: annotations of the InferenceService; the legacy form has its settings there.
        at: path of the predictor, for problems.
    """
    problems: list[FieldProblem] = []
    parts = _parts(predictor, notes, at, problems)
    if parts is None:
        return None, problems
    source, wrong = resolve(parts)
    return source, [*problems, *wrong]


def _parts(
    predictor: PredictorSpec, notes: Mapping[str, str], at: str, problems: list[FieldProblem]
) -> SourceParts | None:
    used = [name for name in FRAMEWORKS if getattr(predictor, name) is not None]
    pinned = notes.get(SERVING_RUNTIME)
    if predictor.model is None and not used:
        problems.append(FieldProblem(at, "names no model", "add model with modelFormat and storage"))
        return None
    if predictor.model is not None and used:
        fix = "keep model, remove the other"
        problems.append(FieldProblem(f"{at}.{used[0]}", f"cannot stand beside {at}.model", fix))
    problems += (
        FieldProblem(f"{at}.{name}", f"cannot stand beside {at}.{used[0]}", "keep one of them") for name in used[1:]
    )
    if (model := predictor.model) is not None:
        if pinned is not None:
            where = f'metadata.annotations["{SERVING_RUNTIME}"]'
            fix = f"use {at}.model.runtime"
            problems.append(FieldProblem(where, f"cannot be used with {at}.model", fix))
        form, block = model.model_format, f"{at}.model"
        return _from_block(model, block, form.name, form.version, model.runtime, notes)
    legacy: FrameworkSpec = getattr(predictor, used[0])
    return _from_block(legacy, f"{at}.{used[0]}", used[0], None, pinned, notes)


def _from_block(
    block: FrameworkSpec, path: str, form: str, version: str | None, runtime: str | None, notes: Mapping[str, str]
) -> SourceParts:
    storage = block.storage or StorageSpec.model_validate({})
    return SourceParts(
        block=path,
        format=form,
        version=version,
        runtime=runtime,
        protocol=block.protocol_version,
        uri=block.storage_uri,
        key=storage.key if storage.key is not None else notes.get(SECRET_KEY),
        path=storage.path,
        schema_path=storage.schema_path if storage.schema_path is not None else notes.get(SCHEMA_PATH),
        parameters=storage.parameters or {},
    )

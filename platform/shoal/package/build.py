"""Building a package: a model's files, however they were saved, become a directory with a manifest."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from shoal.package.errors import InvalidPackage
from shoal.package.evidence import now
from shoal.package.formats import MLFLOW, MLMODEL, ONNX, format_of, uniform_name
from shoal.package.manifest import About, Content, FileRef, Lineage, Signature, TensorSpec, compose, file_ref, problems
from shoal.package.mlflow import read_mlflow
from shoal.package.names import MANIFEST, MAX_FILES, MAX_PAYLOAD_BYTES, MAX_SAMPLES_BYTES, PAYLOAD, SAMPLES, file_path
from shoal.package.onnx import OnnxGraph, read_onnx
from shoal.package.package import Package, open_directory
from shoal.package.samples import Samples
from shoal.package.scratch import scratch_folder
from shoal.package.stores.local import open_plain
from shoal.package.stores.protocol import CHUNK_BYTES

_MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class _Model:
    """What was found out about the source."""

    format: str
    files: Mapping[str, Path]
    """By path in the payload."""
    signature: Signature | None = None
    environment: Mapping[str, str] | None = None
    origin: str | None = None


def build(
    source: Path,
    output: Path,
    *,
    format: str | None = None,
    version: str | None = None,
    signature: Signature | None = None,
    samples: Samples | None = None,
    about: About | None = None,
) -> Package:
    """Build a package of a model file or folder into a directory that does not exist yet.

    Args:
        source: a file (`.joblib`, `.pkl`, `.onnx` with the files of its weights, XGBoost's, LightGBM's), an MLflow
            model directory, a folder with a `model-settings.json`, or with `format` any file or folder.
        format: as `modelFormat.name`. An MLflow model is packaged in its flavour's own format if its server reads
            the file, unless this says `mlflow`.
        version: as `modelFormat.version`; only needed if runtimes are to be chosen by it.
        signature: replaces the one that is read from the model (MLflow, ONNX) or else made from the samples.
        about: its environment and origin are completed by what the model says.

    Raises:
        InvalidPackage: the source, or what is said about it, cannot be packaged.
        ExtraMissing: the format needs a library that is not installed.
    """
    if output.exists() or output.is_symlink():
        raise InvalidPackage(f"{output} exists already; choose another, or remove it")
    if source.is_dir() and output.absolute().is_relative_to(source.absolute()):
        raise InvalidPackage(f"{output} is within the model's folder; build the package beside it")
    model = _examine(source, format)
    about = _completed(about or About(created=now()), model)
    signature = signature or model.signature or (_shape_of(samples) if samples else None)
    if signature and samples:
        _check_samples(samples, signature)
    try:
        with scratch_folder(output) as scratch:
            files = _copy(model.files, scratch / PAYLOAD)
            kept = _write_samples(samples, scratch)
            content = _content(model.format, version, signature, kept, files)
            (scratch / MANIFEST).write_bytes(compose(content, about).to_bytes())
            scratch.chmod(0o755)
            scratch.rename(output)
    except OSError as error:
        raise InvalidPackage(f"{output} cannot be written: {error.strerror or error}") from None
    return open_directory(output)


def read_signature(path: Path) -> Signature:
    """A signature from a JSON file with `inputs` and `outputs`.

    Raises:
        InvalidPackage: it is none; the wrong field is named.
    """
    try:
        return Signature.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InvalidPackage(f"{path}: {problems(Signature, error)}") from None
    except OSError as error:
        raise InvalidPackage(f"{path} cannot be read: {error.strerror}") from None


def _examine(source: Path, wanted: str | None) -> _Model:
    if source.is_symlink():
        raise InvalidPackage(f"{source} is a link; name what it points to")
    if not source.exists():
        raise InvalidPackage(f"{source} does not exist")
    if source.is_dir() and (source / MLMODEL).is_file():
        return _examine_mlflow(source, wanted)
    if source.is_dir() and (source / MANIFEST).is_file():
        raise InvalidPackage(f"{source} is a package already; publish it, or build one of its {PAYLOAD} folder")
    found = wanted or format_of(source)
    files = dict(_files_below(source)) if source.is_dir() else {uniform_name(source): source}
    if not files:
        raise InvalidPackage(f"{source} is empty")
    if source.is_dir() and len(files) == 1:
        (only,) = files.values()
        files = {uniform_name(only): only} if only.parent == source else files
    if found != ONNX:
        return _Model(found, files, None)
    graph = None if source.is_dir() else read_onnx(source)
    if graph is not None:
        files |= _weights(graph)
    graphs = [path for path in files.values() if path.suffix == ".onnx"]
    signature = (graph or read_onnx(graphs[0])).signature() if len(graphs) == 1 else None
    return _Model(found, files, signature)


def _examine_mlflow(source: Path, wanted: str | None) -> _Model:
    found = read_mlflow(source, wanted)
    if found.artifact is None or found.format == MLFLOW:
        files = dict(_files_below(source))
    elif (path := source / found.artifact).is_symlink():
        raise InvalidPackage(f"{path} is a link; put the file itself there")
    else:
        files = {uniform_name(path): path} | (_weights(read_onnx(path)) if found.format == ONNX else {})
    return _Model(found.format, files, found.signature, found.environment, found.run)


def _weights(graph: OnnxGraph) -> dict[str, Path]:
    files = {name: graph.path.parent / name for name in graph.weights()}
    for name, path in files.items():
        if not path.is_file():
            raise InvalidPackage(f"{graph.path} keeps its weights in {name}, which is not beside it; copy it there")
    return files


def _files_below(top: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Path]]:
    if depth > _MAX_DEPTH:
        raise InvalidPackage(f"{top} is nested deeper than {_MAX_DEPTH} folders")
    try:
        with os.scandir(top) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InvalidPackage(f"{top} cannot be read: {error.strerror}") from None
    for entry in found:
        path = Path(entry.path)
        name = file_path(f"{prefix}{entry.name}", "file")
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from _files_below(path, f"{name}/", depth + 1)
        elif stat.S_ISREG(mode):
            yield name, path
        else:
            raise InvalidPackage(f"{path} is a link or a special file; put the file itself there")


def _copy(files: Mapping[str, Path], payload: Path) -> dict[str, FileRef]:
    if len(files) > MAX_FILES:
        raise InvalidPackage(f"the model has {len(files)} files; at most {MAX_FILES} are allowed")
    if (size := sum(source.lstat().st_size for source in files.values())) > MAX_PAYLOAD_BYTES:
        raise InvalidPackage(f"the model has {size} bytes; at most {MAX_PAYLOAD_BYTES} are allowed")
    copied: dict[str, FileRef] = {}
    left = MAX_PAYLOAD_BYTES
    for name, source in files.items():
        target = payload / file_path(name, "file")
        target.parent.mkdir(parents=True, exist_ok=True)
        copied[name] = _copy_file(source, target, left)
        left -= copied[name].size
    return copied


def _copy_file(source: Path, target: Path, left: int) -> FileRef:
    digest, size = hashlib.sha256(), 0
    with open_plain(source) as origin, target.open("xb") as copy:
        while chunk := origin.read(CHUNK_BYTES):
            size += len(chunk)
            if size > left:
                raise InvalidPackage(f"the model has more than {MAX_PAYLOAD_BYTES} bytes")
            digest.update(chunk)
            copy.write(chunk)
    return FileRef(sha256=digest.hexdigest(), size=size)


def _write_samples(samples: Samples | None, directory: Path) -> FileRef | None:
    if samples is None:
        return None
    data = samples.to_bytes()
    if len(data) > MAX_SAMPLES_BYTES:
        raise InvalidPackage(f"the samples are {len(data)} bytes; at most {MAX_SAMPLES_BYTES} are allowed: keep fewer")
    (directory / SAMPLES).write_bytes(data)
    return file_ref(data)


def _content(
    model_format: str,
    version: str | None,
    signature: Signature | None,
    samples: FileRef | None,
    files: dict[str, FileRef],
) -> Content:
    document: dict[str, Any] = {
        "format": model_format,
        "version": version,
        "signature": signature,
        "samples": samples,
        "files": files,
    }
    try:
        return Content.model_validate(document)
    except ValidationError as error:
        raise InvalidPackage(f"the package: {problems(Content, error)}") from None


def _completed(about: About, model: _Model) -> About:
    changes: dict[str, Any] = {}
    if model.environment:
        changes["environment"] = {**model.environment, **about.environment}
    if model.origin and about.lineage.origin is None:
        changes["lineage"] = Lineage(**{**dict(about.lineage), "origin": model.origin})
    return about.model_copy(update=changes) if changes else about


def _shape_of(samples: Samples) -> Signature:
    """By the first sample: its first dimension is the batch, so any size will do."""
    first = samples.samples[0]
    answered = first.response.outputs if first.response else []
    return Signature(
        inputs=[_spec(tensor.name, tensor.datatype, tensor.shape) for tensor in first.request.inputs],
        outputs=[_spec(tensor.name, tensor.datatype, tensor.shape) for tensor in answered],
    )


def _spec(name: str, datatype: str, shape: list[int]) -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "datatype": datatype, "shape": [-1, *shape[1:]] if shape else []})


def _check_samples(samples: Samples, signature: Signature) -> None:
    """Samples that the model could not take would warm up nothing and fail the golden check for the wrong reason."""
    specs = {spec.name: spec for spec in signature.inputs}
    for index, sample in enumerate(samples.samples):
        for tensor in sample.request.inputs:
            spec = specs.get(tensor.name)
            where = f"samples[{index}].request.inputs[{tensor.name}]"
            if spec is None:
                raise InvalidPackage(
                    f"{where} is no input of the signature; rename it to one of {', '.join(specs)}, or give --signature"
                )
            fits = len(spec.shape) == len(tensor.shape) and all(
                want in (-1, got) for want, got in zip(spec.shape, tensor.shape, strict=True)
            )
            if tensor.datatype != spec.datatype or not fits:
                raise InvalidPackage(
                    f"{where} is {tensor.datatype} {tensor.shape}, the signature says {spec.datatype} {spec.shape}"
                )

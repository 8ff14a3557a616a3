"""Sample requests of a package, with the answers they should get: for warming up, and for the golden check.

Kept in the V2 (Open Inference Protocol) JSON form, tensors flat, so that they can be sent as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import Field, ValidationError, model_validator

from shoal.oip.datatypes import DATATYPES, DatatypeName, of_array
from shoal.oip.tensors import flat
from shoal.package.errors import ExtraMissing, InvalidPackage
from shoal.package.manifest import FilePart, canonical, problems
from shoal.package.names import MAX_SAMPLES_BYTES
from shoal.package.stores.local import open_plain

MAX_SAMPLES: Final = 1000
_FORM = '{"samples": [{"request": {"inputs": [...]}, "response": {"outputs": [...]}}]}'


class Tensor(FilePart):
    """A named array."""

    name: str = Field(min_length=1, max_length=512)
    datatype: DatatypeName
    shape: list[int] = Field(max_length=32)
    parameters: dict[str, str | bool | int | float] | None = None
    data: list[Any]

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("data"), list):
            return {**value, "data": list(flat(value["data"]))}
        return value

    @model_validator(mode="after")
    def _fits(self) -> Tensor:
        if any(size < 0 for size in self.shape):
            raise ValueError(f"tensor {self.name!r}: shape {self.shape} of real data has no -1")
        if len(self.data) != math.prod(self.shape):
            raise ValueError(f"tensor {self.name!r}: {len(self.data)} elements of data do not fit shape {self.shape}")
        datatype = DATATYPES[self.datatype]
        for index, element in enumerate(self.data):
            if not datatype.takes(element):
                raise ValueError(f"tensor {self.name!r}: data[{index}] is no {self.datatype}: {element!r:.60}")
        return self


class Request(FilePart):
    """Body of an inference request."""

    inputs: list[Tensor] = Field(min_length=1, max_length=1000)
    outputs: list[dict[str, Any]] | None = None
    parameters: dict[str, Any] | None = None


class Response(FilePart):
    """What matters of the body of an answer."""

    outputs: list[Tensor] = Field(min_length=1, max_length=1000)


class Sample(FilePart):
    """One request, and its answer if it is known."""

    request: Request
    response: Response | None = None

    def body(self) -> dict[str, Any]:
        """The request as it is sent."""
        return self.request.model_dump(mode="json", exclude_none=True)

    def expected(self) -> dict[str, Any] | None:
        """The answer as it should be."""
        return None if self.response is None else self.response.model_dump(mode="json", exclude_none=True)


class Samples(FilePart):
    """`samples.json`."""

    samples: list[Sample] = Field(min_length=1, max_length=MAX_SAMPLES)

    def to_bytes(self) -> bytes:
        """The file."""
        return canonical(self.model_dump(mode="json", exclude_none=True)) + b"\n"


def parse_samples(data: bytes, where: str) -> Samples:
    """Samples in JSON: the form above, a list of samples, one sample, or the body of one request.

    Raises:
        InvalidPackage: it is none of these; the wrong field is named.
    """
    if len(data) > MAX_SAMPLES_BYTES:
        raise InvalidPackage(f"{where} is larger than {MAX_SAMPLES_BYTES} bytes; keep fewer samples")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidPackage(f"{where} is not JSON ({error}); write {_FORM}") from None
    return samples_of(document, where)


def samples_of(document: Any, where: str = "samples") -> Samples:
    """See `parse_samples`; of a document in memory."""
    match document:
        case {"samples": list(items)}:
            pass
        case list(items):
            pass
        case {"request": _} | {"inputs": _}:
            items = [document]
        case _:
            raise InvalidPackage(f"{where} holds no samples; write {_FORM}")
    try:
        return Samples.model_validate({"samples": [_sample(item) for item in items]})
    except ValidationError as error:
        raise InvalidPackage(f"{where}: {problems(Samples, error)}") from None


def load_samples(path: Path) -> Samples:
    """Samples from a `.json` file, or an `.npz` file with arrays named `inputs.NAME` and `outputs.NAME`.

    Raises:
        InvalidPackage: there are none in it.
        ExtraMissing: it is an `.npz` file and NumPy is not installed.
    """
    try:
        with open_plain(path) as file:
            data = file.read(MAX_SAMPLES_BYTES + 1)
    except OSError as error:
        raise InvalidPackage(f"{path} cannot be read: {error.strerror}") from None
    return _from_npz(path) if path.suffix == ".npz" else parse_samples(data, str(path))


def _sample(item: Any) -> Any:
    """Without what servers add to answers and clients to requests, such as ids."""
    if not isinstance(item, Mapping):
        return item
    if "request" not in item:
        item = {"request": item}
    known = {"request": item["request"], "response": item.get("response")}
    unknown = [key for key in item if key not in known]
    if unknown:
        return item
    request, response = known["request"], known["response"]
    if isinstance(request, Mapping):
        known["request"] = {key: value for key, value in request.items() if key != "id"}
    if isinstance(response, Mapping):
        known["response"] = {"outputs": response.get("outputs")}
    return known


def _from_npz(path: Path) -> Samples:
    try:
        import numpy as np
    except ImportError:
        raise ExtraMissing("numpy", "reading samples from an .npz file") from None
    sides: dict[str, list[dict[str, Any]]] = {"inputs": [], "outputs": []}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                side, _, name = key.partition(".")
                if side not in sides or not name:
                    raise InvalidPackage(f"{path}: array {key!r} must be named inputs.NAME or outputs.NAME")
                sides[side].append(_tensor(path, name, arrays[key]))
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise InvalidPackage(f"{path} is no .npz file of plain arrays: {error}") from None
    response = {"outputs": sides["outputs"]} if sides["outputs"] else None
    return samples_of([{"request": {"inputs": sides["inputs"]}, "response": response}], str(path))


def _tensor(path: Path, name: str, array: Any) -> dict[str, Any]:
    datatype = of_array(array)
    if datatype is None:
        raise InvalidPackage(f"{path}: array {name!r} of {array.dtype} has no datatype in the inference protocol")
    if array.nbytes > MAX_SAMPLES_BYTES:
        raise InvalidPackage(f"{path}: array {name!r} is larger than {MAX_SAMPLES_BYTES} bytes; keep fewer samples")
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}

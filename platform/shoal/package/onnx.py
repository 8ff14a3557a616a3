"""The signature of an ONNX model, read from its graph by the `onnx` package; nothing is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal.oip.datatypes import OF_ONNX
from shoal.package.errors import ExtraMissing, InvalidPackage
from shoal.package.manifest import Signature, TensorSpec
from shoal.package.names import file_path


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """A graph as it was read, without the weights it keeps elsewhere."""

    path: Path
    graph: Any
    """`onnx.GraphProto`."""
    onnx: Any
    """The library."""

    def signature(self) -> Signature | None:
        """Its inputs and outputs; None if an input is no tensor. Outputs that are none (maps) are left out."""
        constants = {constant.name for constant in self.graph.initializer}
        inputs = _specs((value for value in self.graph.input if value.name not in constants), self.onnx)
        outputs = [spec for spec in _specs(self.graph.output, self.onnx) if spec is not None]
        known = [spec for spec in inputs if spec is not None]
        return Signature(inputs=known, outputs=outputs) if known and len(known) == len(inputs) else None

    def weights(self) -> list[str]:
        """Files beside it that hold its weights, by their paths from its folder: exporters do that with large models.

        Raises:
            InvalidPackage: it names a file outside of its folder.
        """
        places = (
            entry.value
            for tensor in _tensors(self.graph)
            if tensor.data_location == self.onnx.TensorProto.EXTERNAL
            for entry in tensor.external_data
            if entry.key == "location"
        )
        return sorted({file_path(place.removeprefix("./"), f"{self.path}: weights in") for place in places})


def read_onnx(path: Path) -> OnnxGraph:
    """Read a graph.

    Raises:
        InvalidPackage: it is no ONNX model.
        ExtraMissing: the `onnx` package is not installed.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise ExtraMissing("onnx", "reading an ONNX model") from None
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except (DecodeError, ValueError, OSError) as error:
        raise InvalidPackage(f"{path} is no ONNX model: {error}") from None
    if not graph.node:
        raise InvalidPackage(f"{path} is no ONNX model: it has no graph")
    return OnnxGraph(path, graph, onnx)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)


def _specs(values: Iterable[Any], onnx: Any) -> list[TensorSpec | None]:
    return [_spec(value, onnx) for value in values]


def _spec(value: Any, onnx: Any) -> TensorSpec | None:
    if not value.type.HasField("tensor_type"):
        return None
    tensor = value.type.tensor_type
    datatype = OF_ONNX.get(onnx.TensorProto.DataType.Name(tensor.elem_type))
    if datatype is None or not tensor.HasField("shape"):
        return None
    shape = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else -1 for dim in tensor.shape.dim]
    return TensorSpec.model_validate({"name": value.name, "datatype": datatype, "shape": shape})

"""What load requests declare, and which cannot be meant."""

import pytest

from shoal_protos.mmesh import model_runtime_pb2 as pb
from shoal_runtime.errors import InvalidModelError
from shoal_runtime.requests import checked_id, declared, format_of
from shoal_runtime.storage import ModelKey


@pytest.mark.parametrize(
    ("model_type", "request_type", "name"),
    [
        ({"name": "SKLearn", "version": "1"}, "mt:onnx", "sklearn"),
        ("xgboost:2", "", "xgboost"),
        (None, "mt:sklearn:0|pv:grpc-v2", "sklearn"),
        (None, "sklearn", "sklearn"),
        (None, "rt:triton-2.x", ""),
        ({"version": "1"}, "mt:onnx", "onnx"),
        ({"name": None}, "", ""),
        (None, "", ""),
    ],
)
def test_the_format_is_found_where_it_is_told(model_type: object, request_type: str, name: str) -> None:
    assert format_of(ModelKey(model_type=model_type), request_type) == name  # type: ignore[arg-type]


@pytest.mark.parametrize("model_type", [{"name": 3}, {"name": ["sklearn"]}, "x" * 300])
def test_a_format_without_a_usable_name_is_refused(model_type: object) -> None:
    with pytest.raises(InvalidModelError, match=r"(model_| )type"):
        format_of(ModelKey(model_type=model_type), "")  # type: ignore[arg-type]


@pytest.mark.parametrize("model_id", ["", "x" * 1001, "a\nb", "a\0b"])
def test_ids_that_cannot_be_are_refused(model_id: str) -> None:
    with pytest.raises(InvalidModelError, match="modelId"):
        checked_id(model_id)


def test_options_are_split_from_storage_parameters() -> None:
    key = '{"storage_params": {"type": "pvc", "shoal.max_batch_size": "4"}, "disk_size_bytes": 7}'
    model = declared(pb.LoadModelRequest(modelId="m", modelPath="p", modelKey=key))
    assert model.options == {"max_batch_size": "4"}
    assert dict(model.pull.key.storage_params) == {"type": "pvc"}
    assert model.disk_bytes == 7


def test_secrets_in_a_key_are_not_shown() -> None:
    key = '{"storage_params": {"type": "s3", "secret_access_key": "hush"}}'
    model = declared(pb.LoadModelRequest(modelId="m", modelKey=key))
    assert "hush" not in repr(model.pull.key)

import pytest

from shoal.resources.inferenceservice import parse
from shoal.resources.revision import go_json, model_key, revision_id, type_string
from support.resources import example, isvc, model


def _revision(manifest):
    service, source = parse(manifest)
    return revision_id(service.name, source)


def test_the_published_example_has_its_published_id():
    assert _revision(example("isvc-sklearn-mnist")) == "sklearn-mnist__isvc-3c10c62d34"


@pytest.mark.parametrize(
    ("manifest", "digest"),
    [
        # Ids shown in ModelMesh Serving's documentation.
        (isvc(predictor=model(storage={"key": "localMinIO", "path": "sklearn/mnist-svm.joblib"})), "6b2eb0b8bf"),
        (
            isvc(
                predictor=model(storageUri="s3://modelmesh-example-models/sklearn/mnist-svm.joblib"),
                secretKey="localMinIO",
            ),
            "3642375d03",
        ),
        (
            isvc(
                predictor=model(
                    storage={"path": "sklearn/mnist-svm.joblib", "parameters": {"type": "pvc", "name": "my-models-pvc"}}
                )
            ),
            "3d2daa3370",
        ),
        (isvc(predictor=model(storageUri="pvc://my-models-pvc/sklearn/mnist-svm.joblib")), "3d2daa3370"),
    ],
)
def test_upstream_ids_are_reproduced(manifest, digest):
    assert _revision(manifest) == f"m__isvc-{digest}"


def test_name_labels_and_replicas_do_not_change_the_revision_but_the_model_does():
    base = isvc()
    other = isvc()
    other["metadata"]["labels"] = {"a": "b"}
    other["spec"]["predictor"]["minReplicas"] = 2
    assert _revision(base) == _revision(other)
    changed = isvc(predictor=model(storage={"key": "k", "path": "n.joblib"}))
    assert _revision(base) != _revision(changed)


def test_json_is_written_as_go_writes_it():
    assert go_json({"a": "<&>", "b": "é\u2028"}) == '{"a":"\\u003c\\u0026\\u003e","b":"é\\u2028"}'


def test_the_key_holds_what_the_puller_needs_and_no_more():
    predictor = {
        "model": {
            "modelFormat": {"name": "onnx", "version": "1"},
            "storage": {"key": "k", "path": "p", "schemaPath": "s.json", "parameters": {"z": "1", "bucket": "b"}},
        }
    }
    _, source = parse(isvc(predictor=predictor))
    assert model_key(source) == (
        '{"storage_key":"k","storage_params":{"bucket":"b","z":"1"},'
        '"model_type":{"name":"onnx","version":"1"},"schema_path":"s.json"}'
    )


@pytest.mark.parametrize(
    ("predictor", "expected"),
    [
        (model(storageUri="s3://b/p"), "mt:sklearn"),
        (model(storageUri="s3://b/p", protocolVersion="grpc-v2"), "mt:sklearn|pv:grpc-v2"),
        (
            {"model": {"modelFormat": {"name": "sklearn", "version": "0"}, "storageUri": "s3://b/p"}},
            "mt:sklearn:0",
        ),
        (model(storageUri="s3://b/p", runtime="x", protocolVersion="v2"), "rt:x"),
        (model(storageUri="s3://b/p", protocolVersion=""), "mt:sklearn"),
    ],
)
def test_type_strings(predictor, expected):
    assert type_string(parse(isvc(predictor=predictor))[1]) == expected

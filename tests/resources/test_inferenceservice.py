import pytest

from shoal.resources import inferenceservice
from shoal.resources.inferenceservice import parse, validate, warn
from shoal.resources.problems import InvalidManifest
from support.resources import example, isvc, model


def _said(manifest):
    return [str(problem) for problem in validate(manifest)]


@pytest.mark.parametrize("name", ["isvc-sklearn-mnist", "isvc-custom-runtime", "isvc-legacy"])
def test_published_examples_are_accepted_without_a_word(name):
    manifest = example(name)
    assert validate(manifest) == []
    assert warn(manifest) == []


def test_the_new_form_names_format_and_storage():
    service, source = parse(example("isvc-sklearn-mnist"))
    assert service.name == "sklearn-mnist"
    assert (source.format, source.path, source.storage_key) == ("sklearn", "mnist-svm.joblib", None)
    assert source.parameters == {"type": "pvc", "name": "my-models-pvc"}


def test_the_legacy_form_takes_key_and_runtime_from_annotations():
    predictor = {"xgboost": {"storageUri": "s3://b/p/model.json", "storage": {"schemaPath": "s.json"}}}
    _, source = parse(isvc(predictor=predictor, secretKey="k", servingRuntime="triton-2.x", schemaPath="other.json"))
    assert (source.format, source.runtime, source.storage_key) == ("xgboost", "triton-2.x", "k")
    assert (source.path, source.schema_path) == ("p/model.json", "s.json")
    assert source.parameters == {"type": "s3", "bucket": "b"}


@pytest.mark.parametrize(
    ("uri", "parameters", "path"),
    [
        ("pvc://claim/a/b", {"type": "pvc", "name": "claim"}, "a/b"),
        ("s3://bucket/a", {"type": "s3", "bucket": "bucket"}, "a"),
        ("gs://bucket/a", {"type": "gcs", "bucket": "bucket"}, "a"),
        ("https://host:8/a/b.bin?x=1", {"type": "http", "url": "https://host:8?x=1"}, "a/b.bin"),
        (
            "https://acct.blob.core.windows.net/box/a/b",
            {"type": "azure", "account_name": "acct", "container": "box"},
            "a/b",
        ),
    ],
)
def test_uris_become_storage_parameters_and_win_over_declared_ones(uri, parameters, path):
    storage = {"parameters": {"bucket": "other", "kept": "yes"}}
    _, source = parse(isvc(predictor=model(storageUri=uri, storage=storage)))
    assert source.parameters == {"bucket": "other", "kept": "yes"} | parameters
    assert source.path == path


def test_every_wrong_field_is_named_with_the_fix():
    predictor = {
        "model": {"modelFormat": {"nmae": "sklearn", "version": 1}, "storage": {"path": "x", "parameters": {"a": 3}}},
        "minReplicas": "2",
        "maxreplicas": 2,
    }
    assert _said(isvc(predictor=predictor)) == [
        'spec.predictor.model.storage.parameters.a: must be a string, not 3; write it in quotes: "3"',
        "spec.predictor.model.modelFormat.name: is required; add it",
        'spec.predictor.model.modelFormat.version: must be a string, not 1; write it in quotes: "1"',
        "spec.predictor.model.modelFormat.nmae: unknown field; did you mean 'name'?",
        "spec.predictor.minReplicas: must be a whole number, not '2'; write it without quotes",
        "spec.predictor.maxreplicas: unknown field; did you mean 'maxReplicas'?",
    ]


def test_only_unknown_fields_are_marked_as_such():
    manifest = isvc(predictor={**model(storageUri="s3://b/p"), "bogus": 1, "minReplicas": "1"})
    assert [(problem.path, problem.unknown) for problem in validate(manifest)] == [
        ("spec.predictor.minReplicas", False),
        ("spec.predictor.bogus", True),
    ]


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (isvc(predictor={}), "spec.predictor: names no model; add model with modelFormat and storage"),
        (isvc(predictor=model()), "spec.predictor.model.storage.path: is required; add it, or storageUri"),
        (
            isvc(predictor=model(storageUri="s3://b/p", storage={"path": "q"})),
            "spec.predictor.model.storageUri: is given beside storage.path; "
            "keep one of storageUri and spec.predictor.model.storage.path",
        ),
        (
            isvc(predictor=model(storageUri="hf://org/model")),
            "spec.predictor.model.storageUri: storage of scheme 'hf' is not supported; "
            "use pvc://CLAIM/PATH, s3://BUCKET/PATH or https://HOST/PATH",
        ),
        (
            isvc(predictor=model(storage={"path": "../../etc/passwd"})),
            "spec.predictor.model.storage.path: '../../etc/passwd' leaves its storage; remove '..'",
        ),
        (
            isvc(predictor={**model(storageUri="s3://b/p"), "sklearn": {"storageUri": "s3://b/p"}}),
            "spec.predictor.sklearn: cannot stand beside spec.predictor.model; keep model, remove the other",
        ),
        (
            isvc(predictor=model(storageUri="s3://b/p"), servingRuntime="x"),
            'metadata.annotations["serving.kserve.io/servingRuntime"]: cannot be used with spec.predictor.model; '
            "use spec.predictor.model.runtime",
        ),
        (
            isvc(predictor={**model(storageUri="s3://b/p"), "minReplicas": 3, "maxReplicas": 2}),
            "spec.predictor.maxReplicas: 2 is less than minReplicas 3; raise it",
        ),
        (
            isvc(name="Upper"),
            "metadata.name: 'Upper' is not a valid name; "
            "use lower-case letters, digits and '-', start with a letter, at most 200 characters",
        ),
    ],
)
def test_manifests_that_make_no_sense_are_explained(manifest, said):
    assert _said(manifest) == [said]
    with pytest.raises(InvalidManifest):
        parse(manifest)


def test_what_kserve_knows_and_model_mesh_ignores_is_accepted_with_a_warning():
    predictor = {
        "serviceAccountName": "sa",
        "nodeSelector": {"a": "b"},
        "canaryTrafficPercent": 10,
        "minReplicas": 1,
        "model": {
            "modelFormat": {"name": "sklearn"},
            "storageUri": "s3://b/p",
            "resources": {"limits": {"cpu": 1}},
            "env": [],
        },
    }
    manifest = isvc(predictor=predictor)
    manifest["spec"]["transformer"] = {"containers": []}
    assert validate(manifest) == []
    assert sorted(warning.split(":")[0] for warning in warn(manifest)) == [
        "spec.predictor.canaryTrafficPercent",
        "spec.predictor.model.env",
        "spec.predictor.model.resources",
        "spec.predictor.nodeSelector",
        "spec.predictor.serviceAccountName",
        "spec.transformer",
    ]


def test_without_the_annotation_only_the_shape_is_checked_and_the_annotation_is_named():
    manifest = isvc(predictor={})
    manifest["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "modelmesh"}
    assert validate(manifest) == []
    assert warn(manifest) == [
        "metadata.annotations[\"serving.kserve.io/deploymentMode\"]: is 'modelmesh'; "
        "set it to 'ModelMesh' to have Shoal serve this model"
    ]


def test_null_is_absent():
    assert (
        validate(isvc(predictor={**model(storageUri="s3://b/p", storage=None, runtime=None), "minReplicas": None}))
        == []
    )


def test_replicas_are_the_least_and_most_copies():
    service, _ = parse(isvc(predictor={**model(storageUri="s3://b/p"), "minReplicas": 1, "maxReplicas": 3}))
    assert service.copies == (1, 3)
    assert parse(isvc())[0].copies == (0, 0)


def test_a_status_written_by_others_does_no_harm():
    manifest = isvc() | {"status": {"deploymentMode": "ModelMesh", "conditions": [{"type": "X", "status": "True"}]}}
    assert validate(manifest) == []
    assert inferenceservice.parse(manifest)[0].name == "m"


@pytest.mark.parametrize("document", [{}, {"spec": None}, {"spec": []}, {"spec": {"predictor": "x"}}, {"metadata": 3}])
def test_nonsense_is_refused_not_crashed_on(document):
    assert validate(document) != []

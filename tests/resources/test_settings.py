import pytest

from shoal.resources.problems import InvalidManifest
from shoal.resources.settings import WITHOUT_EFFECT, ModelServingConfig, config_from, without_effect


def _map(text, name="model-serving-config"):
    return {"metadata": {"name": name}, "data": {"config.yaml": text}}


def test_defaults_are_upstreams():
    config = config_from()
    assert (config.inference_service_name, config.inference_service_port) == ("modelmesh-serving", 8033)
    assert (config.pods_per_runtime, config.scale_to_zero.enabled, config.scale_to_zero.grace_period_seconds) == (
        2,
        True,
        60,
    )
    assert (config.rest_proxy.port, config.storage_secret_name, config.allow_any_pvc) == (8008, "storage-config", False)


def test_keys_are_case_insensitive_and_layers_are_merged_deeply():
    factory = _map("podsPerRuntime: 3\nscaleToZero:\n  enabled: false\n  gracePeriodSeconds: 7\n")
    user = _map("PODSPERRUNTIME: 1\nscaletozero:\n  GracePeriodSeconds: 9\nallowanypvc: true\n")
    config = config_from(factory, None, user)
    assert config.pods_per_runtime == 1
    assert (config.scale_to_zero.enabled, config.scale_to_zero.grace_period_seconds) == (False, 9)
    assert config.allow_any_pvc


def test_keys_of_labels_keep_their_case_and_dots():
    assert config_from(_map("runtimePodLabels:\n  A.b/C: x\n")).runtime_pod_labels == {"A.b/C": "x"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("podsPerRuntime: many", "podsPerRuntime: must be a whole number, not 'many'"),
        ("podPerRuntime: 1", "podPerRuntime: unknown field; did you mean 'podsPerRuntime'?"),
        ("payloadProcessors: ['http://a b']", "payloadProcessors[0]: must be one URI without spaces"),
        ("storageHelperResources: {requests: {memory: 1GB}}", "is not a quantity"),
        ("a: [", "is not YAML"),
        ("just text", "must be a mapping of settings"),
    ],
)
def test_every_wrong_setting_is_named(text, said):
    with pytest.raises(InvalidManifest) as caught:
        config_from(_map(text))
    assert said in str(caught.value)


def test_a_digest_wins_over_a_tag():
    image = config_from(_map("storageHelperImage: {name: a/b, tag: v1, digest: 'sha256:0'}")).storage_helper_image
    assert image.reference == "a/b@sha256:0"


def test_keys_that_change_nothing_are_told_with_the_reason():
    found = without_effect(_map("PAYLOADPROCESSORS: [logger://*]\npodsPerRuntime: 1\netcdSecretName: e"))
    assert [message.split(":")[0] for message in found] == [
        "payloadProcessors has no effect",
        "etcdSecretName has no effect",
    ]
    assert without_effect(_map("a: [")) == []
    assert without_effect({}) == []


def test_a_key_has_an_effect_or_a_reason_why_not():
    keys = {info.alias or name for name, info in ModelServingConfig.model_fields.items()}
    assert keys >= WITHOUT_EFFECT.keys()

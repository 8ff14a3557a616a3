import pytest

from shoal.controller.pods import ports_of
from shoal.controller.render import deployment, services
from shoal.controller.settings import ControllerSettings
from shoal.resources.builtin import builtin_runtime
from shoal.resources.runtimerules import parse
from shoal.resources.settings import config_from
from support.resources import example, runtime


def _config(text=""):
    return config_from({"data": {"config.yaml": text}})


def _deployment(manifest, text="", **options):
    options = {"namespace": "ns", "replicas": 2} | options
    return deployment(parse(manifest), _config(text), **options)


def _pod(document):
    return document["spec"]["template"]["spec"]


def _container(document, name):
    return next(container for container in _pod(document)["containers"] if container["name"] == name)


def _env(container):
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}


def test_the_deployment_carries_the_contract_of_pod_discovery():
    document = _deployment(builtin_runtime("mlserver-1.x"))
    assert document["metadata"]["name"] == "modelmesh-serving-mlserver-1.x"
    assert document["spec"]["replicas"] == 2
    template = document["spec"]["template"]["metadata"]
    assert document["spec"]["selector"]["matchLabels"].items() <= template["labels"].items()
    assert template["labels"]["modelmesh-service"] == "modelmesh-serving"
    assert template["annotations"] == {
        "shoal.dev/runtime": "mlserver-1.x",
        "shoal.dev/management-port": "8085",
        "shoal.dev/grpc-port": "8001",
        "shoal.dev/http-port": "8002",
    }


def test_mlserver_is_reached_at_the_pods_address_and_cured_of_its_habits():
    document = _deployment(example("runtime-custom"))
    env = _env(_container(document, "mlserver"))
    assert env["MLSERVER_HOST"] == "$(POD_IP)"
    assert env["POD_IP"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert env["MLSERVER_PARALLEL_WORKERS"] == "0"
    assert env["MLSERVER_MODEL_REPOSITORY_IMPLEMENTATION"].endswith(".DirectRepository")
    assert env["OMP_NUM_THREADS"] == "1"
    assert env["MLSERVER_LOAD_MODELS_AT_STARTUP"] == "false"
    names = [variable["name"] for variable in _container(document, "mlserver")["env"]]
    assert len(names) == len(set(names))
    assert names.index("POD_IP") < names.index("MLSERVER_HOST")
    assert "shoal.dev/http-port" not in document["spec"]["template"]["metadata"]["annotations"]


def test_what_the_manifest_sets_on_purpose_is_kept():
    manifest = example("runtime-custom")
    manifest["spec"]["containers"][0]["env"] += [
        {"name": "MLSERVER_PARALLEL_WORKERS", "value": "1"},
        {"name": "OMP_NUM_THREADS", "value": "4"},
    ]
    env = _env(_container(_deployment(manifest), "mlserver"))
    assert (env["MLSERVER_PARALLEL_WORKERS"], env["OMP_NUM_THREADS"]) == ("1", "4")


def test_the_adapter_gets_upstreams_environment_and_overrides_win():
    manifest = example("runtime-triton")
    manifest["spec"]["builtInAdapter"]["env"] = [
        {"name": "LOADTIME_TIMEOUT", "value": "5"},
        {"name": "EXTRA", "value": "x"},
    ]
    adapter = _container(_deployment(manifest), "triton-adapter")
    env = _env(adapter)
    assert adapter["command"] == ["shoal-adapter", "triton"]
    assert env == {
        "POD_IP": {"fieldRef": {"fieldPath": "status.podIP"}},
        "ADAPTER_PORT": "8085",
        "RUNTIME_PORT": "8001",
        "RUNTIME_DATA_ENDPOINT": "port:8001",
        "CONTAINER_MEM_REQ_BYTES": {"resourceFieldRef": {"containerName": "triton", "resource": "requests.memory"}},
        "MEM_BUFFER_BYTES": "134217728",
        "LOADTIME_TIMEOUT": "5",
        "LOADING_CONCURRENCY": "2",
        "USE_EMBEDDED_PULLER": "true",
        "RUNTIME_VERSION": "23.04-py3",
        "ROOT_MODEL_DIR": "/models",
        "STORAGE_CONFIG_DIR": "/storage-config",
        "PVC_MOUNTS_DIR": "/pvc_mounts",
        "PRESTOP_PORT": "8090",
        "MODEL_CACHE_DIR": "/models/_cache",
        "MODEL_CACHE_BYTES": str(1610612736 // 3),
        "EXTRA": "x",
    }


def test_a_runtime_that_speaks_model_runtime_itself_gets_a_puller_unless_it_declines():
    document = _deployment(runtime(grpcDataEndpoint="port:9000"))
    assert [container["name"] for container in _pod(document)["containers"]] == ["server", "puller"]
    assert _env(_container(document, "puller"))["MODEL_SERVER_ENDPOINT"] == "port:8085"
    assert document["spec"]["template"]["metadata"]["annotations"]["shoal.dev/management-port"] == "8086"
    declined = _deployment(runtime(storageHelper={"disabled": True}))
    assert [container["name"] for container in _pod(declined)["containers"]] == ["server"]
    assert declined["spec"]["template"]["metadata"]["annotations"]["shoal.dev/management-port"] == "8085"


@pytest.mark.parametrize(
    ("manifest", "ports"),
    [
        (builtin_runtime("mlserver-1.x"), (8085, 8001, 8002)),
        (runtime(storageHelper={"disabled": True}), (8085, 8085, None)),
        (runtime(grpcDataEndpoint="port:9000", httpDataEndpoint="port:9001"), (8086, 9000, 9001)),
    ],
)
def test_ports(manifest, ports):
    found = ports_of(parse(manifest))
    assert (found.management, found.grpc, found.http) == ports


def test_a_unix_socket_gets_a_shared_directory():
    document = _deployment(runtime(grpcEndpoint="unix:///run/s/mm.sock", grpcDataEndpoint="port:9000"))
    mounts = [mount for mount in _container(document, "puller")["volumeMounts"] if mount["name"] == "domain-socket"]
    assert [mount["mountPath"] for mount in mounts] == ["/run/s"]
    assert {"name": "domain-socket", "emptyDir": {}} in _pod(document)["volumes"]


def test_volumes_and_claims_are_mounted_where_upstream_mounts_them():
    document = _deployment(example("runtime-triton"), claims=("c1",))
    volumes = {volume["name"]: volume for volume in _pod(document)["volumes"]}
    assert volumes["models-dir"] == {"name": "models-dir", "emptyDir": {"sizeLimit": "1610612736"}}
    assert volumes["storage-config"]["secret"] == {"secretName": "storage-config", "optional": True}
    assert volumes["c1"]["persistentVolumeClaim"] == {"claimName": "c1", "readOnly": True}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    server = {mount["mountPath"] for mount in _container(document, "triton")["volumeMounts"]}
    assert server == {"/dev/shm", "/models", "/pvc_mounts/c1"}
    adapter = {mount["mountPath"] for mount in _container(document, "triton-adapter")["volumeMounts"]}
    assert adapter == {"/models", "/pvc_mounts/c1", "/storage-config"}


def test_every_container_waits_for_its_models_to_move_before_it_stops():
    for container in _pod(_deployment(example("runtime-triton")))["containers"]:
        assert container["lifecycle"] == {"preStop": {"httpGet": {"path": "/prestop", "port": 8090}}}
        assert container["securityContext"] == {"capabilities": {"drop": ["ALL"]}}
    assert _pod(_deployment(example("runtime-triton")))["terminationGracePeriodSeconds"] == 90


def test_pod_fields_pass_through_and_the_runtimes_labels_win_over_the_configurations():
    manifest = runtime(
        nodeSelector={"a": "b"},
        tolerations=[{"key": "gpu"}],
        affinity={"nodeAffinity": {}},
        labels={"team": "runtime", "name": "mine"},
        imagePullSecrets=[{"name": "s1"}, {"name": "s2"}],
    )
    text = "runtimePodLabels: {team: config, x: y}\nimagePullSecrets: [{name: s1}]\nserviceAccountName: sa\n"
    document = _deployment(manifest, text)
    labels = document["spec"]["template"]["metadata"]["labels"]
    assert (labels["team"], labels["x"], labels["name"]) == ("runtime", "y", "modelmesh-serving-r")
    pod = _pod(document)
    assert pod["nodeSelector"] == {"a": "b"}
    assert pod["tolerations"] == [{"key": "gpu"}]
    assert pod["imagePullSecrets"] == [{"name": "s1"}, {"name": "s2"}]
    assert pod["serviceAccountName"] == "sa"


def test_the_same_input_renders_the_same_and_a_change_shows_in_the_mark():
    first, again = _deployment(runtime()), _deployment(runtime())
    assert first == again
    other = _deployment(runtime(), replicas=3)
    assert first["metadata"]["annotations"] != other["metadata"]["annotations"]


def test_the_runtime_owns_its_deployment():
    manifest = runtime()
    manifest["metadata"]["uid"] = "u"
    (owner,) = _deployment(manifest)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("ServingRuntime", "r", "u")


def test_services_name_the_gateways_ports_and_the_meshs_address():
    settings = ControllerSettings(namespace="ns", admin_address="http://127.64.0.1:18080")
    gateway, mesh = services(settings, _config("inferenceServicePort: 9033"))
    assert [(port["name"], port["port"]) for port in gateway["spec"]["ports"]] == [("grpc", 9033), ("http", 8008)]
    assert gateway["metadata"]["name"] == "modelmesh-serving"
    assert mesh["metadata"]["annotations"]["shoal.dev/address"] == "http://127.64.0.1:18080"
    assert mesh["spec"]["ports"][0]["name"] == "admin"


def test_the_meshs_service_tells_prometheus_where_metrics_are():
    def told(config: str) -> tuple[dict[str, str], list[str]]:
        mesh = services(ControllerSettings(namespace="ns"), _config(config))[1]
        return mesh["metadata"]["annotations"], [f"{port['name']} {port['port']}" for port in mesh["spec"]["ports"]]

    annotations, ports = told("metrics: {port: 9112, scheme: https}")
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/scheme": "https",
        "prometheus.io/port": "9112",
        "prometheus.io/path": "/metrics",
    }
    assert ports == ["admin 18080", "prometheus 9112"]
    assert told("metrics: {enabled: false}") == ({}, ["admin 18080"])

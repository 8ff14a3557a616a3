"""`ShoalClusterComponent`: the cluster and the store of a code location, in YAML."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, create_model

import dagster as dg
from dagster import ResolutionContext
from dagster_shoal.components.forms import STRICT, ClusterChoice, plain, validated
from dagster_shoal.components.scaffolders import ClusterScaffolder
from dagster_shoal.jobs import build_steering_jobs
from dagster_shoal.notifications import Webhook, notification_sensors
from dagster_shoal.resource import ShoalResource
from dagster_shoal.sensors import abandoned_rollout_sensors
from dagster_shoal.sensors.abandoned import Verb
from dagster_shoal.store import LocalModelStore, ModelStore, S3ModelStore

_STORES: dict[str, type[ModelStore]] = {"local": LocalModelStore, "s3": S3ModelStore}


def _store_form(kind: type[BaseModel], name: str, word: str) -> Any:
    fields: dict[str, Any] = {key: (field.annotation, field) for key, field in kind.model_fields.items()}
    fields["type"] = (Literal[word], ...)
    return create_model(name, __config__=STRICT, __doc__=kind.__doc__, **fields)


_LOCAL = _store_form(LocalModelStore, "LocalStoreForm", "local")
_S3 = _store_form(S3ModelStore, "S3StoreForm", "s3")


def _store(context: ResolutionContext, value: Any) -> ModelStore:
    checked: BaseModel = validated(Annotated[_LOCAL | _S3, Field(discriminator="type")], plain(context, value), "store")
    given = checked.model_dump(exclude_unset=True)
    return _STORES[given.pop("type")](**given)


StoreChoice: TypeAlias = Annotated[
    ModelStore,
    dg.Resolver(
        _store,
        model_field_type=_LOCAL | _S3,
        description="Where packages are published: `local`, a claim of an embedded cluster, or `s3`, a bucket.",
    ),
]


@dg.scaffold_with(ClusterScaffolder)
class ShoalClusterComponent(dg.Component, dg.Model, dg.Resolvable):
    """A Shoal cluster and its store, for all models of a code location: once.

    Makes the resources `shoal` and `model_store`, the jobs `approve`, `abort` and `rollback` (where `model` is the name
    of the InferenceService), sensors for rollouts whose run was cancelled or killed, and news by webhook.

    ```yaml
    type: dagster_shoal.ShoalClusterComponent
    attributes:
      cluster:
        kubeconfig: "{{ env.KUBECONFIG }}"      # or: state_dir, for an embedded cluster
        namespace: models
        on_cancel: pause
        dagster_url: https://dagster.example.com
      store:
        type: s3                                # or: local, with claim
        endpoint: http://minio:9000
        bucket: models
        storage_key: localMinIO
        access_key: "{{ env.S3_ACCESS_KEY }}"
        secret_key: "{{ env.S3_SECRET_KEY }}"
        signing_key: /keys/signing.pem
      on_failed_run: leave
      webhook: "{{ env.SLACK_WEBHOOK }}"
    requirements:
      env: [KUBECONFIG, S3_ACCESS_KEY, S3_SECRET_KEY, SLACK_WEBHOOK]
    ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    cluster: ClusterChoice = Field(default_factory=ShoalResource)
    store: StoreChoice = Field(default_factory=LocalModelStore)
    on_failed_run: Verb = Field("leave", description="What becomes of a rollout whose run failed: pause, abort, leave.")
    webhook: str = Field("", description="Where to post how runs ended, as Slack's incoming webhooks; empty: nowhere.")

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """What `dg list components` and the UI show."""
        return dg.ComponentTypeSpec(
            description="The cluster and the store that models are rolled out from and to", tags=["ml", "serving"]
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Resources, jobs and sensors."""
        shoal: ShoalResource = self.cluster
        sensors = abandoned_rollout_sensors(on_canceled=shoal.on_cancel, on_failed=self.on_failed_run)
        resources: dict[str, Any] = {"shoal": shoal, "model_store": self.store}
        if self.webhook:
            resources["webhook"] = Webhook(url=self.webhook)
            sensors += notification_sensors()
        return dg.Definitions(
            resources=resources,
            jobs=build_steering_jobs(lambda service: service),
            sensors=sensors,
            executor=dg.in_process_executor,
        )

"""What the controller knows of the API's objects: the newest documents its informers handed over."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from shoal.controller.kube import CLUSTER_RUNTIME, CONFIG_MAP, ISVC, POD, RUNTIME, SECRET, Document, Resource
from shoal.resources.choose import Chosen, NoRuntime, Requirements, choose, visible
from shoal.resources.evidence import TRUSTED_KEYS
from shoal.resources.problems import FieldProblem, InvalidManifest
from shoal.resources.runtimerules import parse as parse_runtime
from shoal.resources.servingruntime import ServingRuntime
from shoal.resources.settings import FACTORY_CONFIG, USER_CONFIG, ModelServingConfig, config_from
from shoal.resources.storage import Storage, claims_in, entries_of

_LOG = logging.getLogger(__name__)


class DeclarationStore:
    """Documents by kind and name, and what follows from them: runtimes, settings, claims."""

    def __init__(self) -> None:
        self._documents: dict[Resource, dict[str, Document]] = {}
        self.config = ModelServingConfig.model_validate({})
        self.config_problem = ""
        """What is wrong with the ConfigMaps; the settings of before stay in force."""
        self.runtimes: dict[str, ServingRuntime] = {}
        """Usable ones, by name; a ServingRuntime hides a ClusterServingRuntime."""
        self.broken_runtimes: dict[str, str] = {}
        """Name to what is wrong with it."""
        self.epoch = 0
        """Counts changes of runtimes and of trusted keys, so that choices can be made anew."""

    def put(self, resource: Resource, name: str, document: Document | None) -> None:
        """Remember an object, or that it is gone (None)."""
        documents = self._documents.setdefault(resource, {})
        before = documents.get(name)
        if document is None:
            documents.pop(name, None)
        else:
            documents[name] = document
        if resource in (RUNTIME, CLUSTER_RUNTIME):
            if _declared(before) != _declared(document):
                self._read_runtimes()
        elif resource is CONFIG_MAP and name in (USER_CONFIG, FACTORY_CONFIG):
            self._read_config()
        elif resource is CONFIG_MAP and name == TRUSTED_KEYS:
            self.epoch += 1

    def get(self, resource: Resource, name: str) -> Document | None:
        """An object."""
        return self._documents.get(resource, {}).get(name)

    def names(self, resource: Resource) -> list[str]:
        """Names of all objects of a kind."""
        return list(self._documents.get(resource, ()))

    def isvc(self, name: str) -> Document | None:
        """An InferenceService that is not being deleted."""
        document = self.get(ISVC, name)
        return None if document is None or document["metadata"].get("deletionTimestamp") else document

    def pods(self) -> list[Document]:
        """All pods."""
        return list(self._documents.get(POD, {}).values())

    def choose(self, wanted: Requirements) -> Chosen | NoRuntime:
        """The runtime for a model, by what is declared now."""
        return choose(wanted, self.runtimes.values())

    def storage_entries(self) -> dict[str, Storage]:
        """Usable entries of the storage Secret. They hold secrets."""
        return self._storage()[0]

    def storage_problems(self) -> list[FieldProblem]:
        """What is wrong with the other entries; values are never quoted."""
        return self._storage()[1]

    def _storage(self) -> tuple[dict[str, Storage], list[FieldProblem]]:
        secret: Mapping[str, Any] = self.get(SECRET, self.config.storage_secret_name) or {}
        return entries_of(secret)

    def claims(self) -> tuple[str, ...]:
        """PersistentVolumeClaims that entries of the storage Secret name."""
        return claims_in(self.storage_entries())

    def _read_runtimes(self) -> None:
        self.epoch += 1
        found: list[ServingRuntime] = []
        self.broken_runtimes = {}
        for resource in (RUNTIME, CLUSTER_RUNTIME):
            for name, document in self._documents.get(resource, {}).items():
                if document["metadata"].get("deletionTimestamp"):
                    continue
                try:
                    found.append(parse_runtime(document))
                except InvalidManifest as error:
                    self.broken_runtimes[name] = str(error)
        self.runtimes = {runtime.name: runtime for runtime in visible(found)}

    def _read_config(self) -> None:
        try:
            self.config = config_from(self.get(CONFIG_MAP, FACTORY_CONFIG), self.get(CONFIG_MAP, USER_CONFIG))
            self.config_problem = ""
        except InvalidManifest as error:
            self.config_problem = str(error)
            _LOG.warning("The settings of before stay in force: %s", error)


def _declared(document: Document | None) -> Document | None:
    """An object without its status and what every write of that changes."""
    if document is None:
        return None
    metadata = {key: value for key, value in document["metadata"].items() if key not in _WRITTEN}
    return {key: value for key, value in document.items() if key != "status"} | {"metadata": metadata}


_WRITTEN = frozenset({"resourceVersion", "managedFields"})

"""Storage: brings the files of a model from where they are kept to where the model server reads them."""

from shoal_runtime.storage.errors import (
    ArtifactNotFoundError,
    InvalidStorageError,
    StorageDeniedError,
    StorageError,
    StorageErrorKind,
    StorageExhaustedError,
    StorageUnavailableError,
)
from shoal_runtime.storage.settings import StorageSettings
from shoal_runtime.storage.store import ArtifactStore
from shoal_runtime.storage.types import ModelKey, PulledModel, PullRequest, parse_model_key

__all__ = [
    "ArtifactNotFoundError",
    "ArtifactStore",
    "InvalidStorageError",
    "ModelKey",
    "PullRequest",
    "PulledModel",
    "StorageDeniedError",
    "StorageError",
    "StorageErrorKind",
    "StorageExhaustedError",
    "StorageSettings",
    "StorageUnavailableError",
    "parse_model_key",
]

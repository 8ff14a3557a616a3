"""`ModelStore`: where packages are published, as the models' claim of an embedded cluster or as a bucket.

Models never pass through an I/O manager: those overwrite in place and pickle, a package is immutable and may be large.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from pydantic import Field

import dagster as dg
from shoal.package.errors import InvalidPackage
from shoal.package.keys import SigningKey, TrustedKeys, load_public, load_signing
from shoal.package.stores.local import LocalStore
from shoal.package.stores.protocol import PackageStore
from shoal.package.stores.s3 import open_s3
from shoal.statedir import state_dir

SCRATCH = "scratch"
"""Prefix below the store's where packages are put that are only to be tried."""


class ModelStore(dg.ConfigurableResource, ABC):  # type: ignore[type-arg]
    """Where packages are published, and the keys that vouch for them."""

    prefix: str = Field(default="", description="Folder within the store.")
    signing_key: str = Field(default="", description="Private key (PEM file) that signs packages and evidence.")
    trusted_key: str = Field(
        default="", description="Public key (PEM file) to verify with; empty: the signing key's own."
    )
    work_dir: str = Field(
        default="",
        description="Folder for models that are not published yet, shared by all steps; empty: Dagster's storage.",
    )

    @abstractmethod
    def open(self, *, scratch: str = "") -> PackageStore:
        """The store; `scratch`: a folder of it, below `SCRATCH`, for packages that are only to be tried."""

    @property
    def key_file(self) -> Path:
        """The private key's file.

        Raises:
            InvalidPackage: none is set.
        """
        if not self.signing_key:
            raise InvalidPackage("signing_key: is required here; `shoal package keygen` makes one")
        return Path(self.signing_key).expanduser()

    def signer(self) -> SigningKey:
        """The key that signs packages and evidence.

        Raises:
            InvalidPackage: it cannot be read.
        """
        return load_signing(self.key_file)

    def trusted(self) -> TrustedKeys:
        """The keys to verify with.

        Raises:
            InvalidPackage: one cannot be read.
        """
        public = load_public(Path(self.trusted_key).expanduser()) if self.trusted_key else self.signer().public
        return TrustedKeys({public.name: public})

    def work(self, instance: dg.DagsterInstance) -> Path:
        """Where models are kept until they are published."""
        return Path(self.work_dir).expanduser() if self.work_dir else Path(instance.storage_directory()) / "shoal"

    def _below(self, scratch: str) -> str:
        return "/".join(part for part in (self.prefix.strip("/"), f"{SCRATCH}/{scratch}" if scratch else "") if part)


class LocalModelStore(ModelStore):
    """A claim of an embedded cluster: the directory `pvcs/CLAIM` of its state directory. Its key is `keys/signing.pem`.

    LocalModelStore(state_dir=dg.EnvVar("SHOAL_STATE_DIR"), claim="models")
    """

    state_dir: str = Field(
        default="", description="State directory of the embedded cluster; empty: the `shoal` command's."
    )
    claim: str = Field(default="models", description="Name of the PersistentVolumeClaim.")

    def open(self, *, scratch: str = "") -> PackageStore:
        """See `ModelStore.open`."""
        root = self._state_dir / "pvcs" / self.claim
        root.mkdir(parents=True, exist_ok=True)
        return LocalStore(root, claim=self.claim, prefix=self._below(scratch))

    @property
    def key_file(self) -> Path:
        """See `ModelStore.key_file`; the embedded cluster's own by default."""
        return super().key_file if self.signing_key else self._state_dir / "keys" / "signing.pem"

    @property
    def _state_dir(self) -> Path:
        return state_dir(self.state_dir or None)


class S3ModelStore(ModelStore):
    """A bucket of S3 or MinIO.

    S3ModelStore(
        endpoint="http://minio:9000", bucket="models", storage_key="localMinIO",
        access_key=dg.EnvVar("S3_ACCESS_KEY"), secret_key=dg.EnvVar("S3_SECRET_KEY"), signing_key="/keys/signing.pem",
    )
    """

    endpoint: str = Field(description="Such as https://s3.eu-central-1.amazonaws.com or http://minio:9000.")
    bucket: str = Field(description="It must exist.")
    access_key: str = ""
    secret_key: str = ""
    region: str = ""
    certificate: str = Field(default="", description="PEM of an authority to trust for https.")
    storage_key: str = Field(
        default="", description="Entry of the `storage-config` Secret by which runtime pods reach the bucket."
    )

    def open(self, *, scratch: str = "") -> PackageStore:
        """See `ModelStore.open`."""
        return open_s3(
            self.endpoint,
            self.bucket,
            access_key=self.access_key or None,
            secret_key=self.secret_key or None,
            region=self.region or None,
            certificate=self.certificate or None,
            prefix=self._below(scratch),
            key=self.storage_key or None,
        )

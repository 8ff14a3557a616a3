"""Where packages are kept: a directory, or a bucket of an object store (`stores.s3`, which takes 0.1 s to import)."""

from shoal.package.stores.local import LocalStore
from shoal.package.stores.protocol import PackageStore, StoreAddress, StoreEntry

__all__ = ["LocalStore", "PackageStore", "StoreAddress", "StoreEntry"]

"""Where packages are kept: a directory, or a bucket of an object store."""

from shoal.package.stores.local import LocalStore
from shoal.package.stores.protocol import Address, Entry, Store
from shoal.package.stores.s3 import S3Store, open_s3

__all__ = ["Address", "Entry", "LocalStore", "S3Store", "Store", "open_s3"]

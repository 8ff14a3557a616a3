"""Where the storage works and its limits. The adapter fills it from its environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Directories and bounds of one pod's storage."""

    root_dir: Path = Path("/models")
    """ROOT_MODEL_DIR: the files of model `m` are below `<root_dir>/m`. Names starting with `_` are not models."""
    config_dir: Path = Path("/storage-config")
    """STORAGE_CONFIG_DIR: the mounted `storage-config` Secret, one file an entry, read anew at each pull."""
    pvc_dir: Path = Path("/pvc_mounts")
    """PVC_MOUNTS_DIR: one folder a persistent volume claim."""
    cache_dir: Path | None = None
    """MODEL_CACHE_DIR: downloaded files, kept for the next pull. Must share a filesystem with `root_dir`, because
    models get hard links. None: `<root_dir>/_cache`."""
    cache_bytes: int = 2 * GIB
    """MODEL_CACHE_BYTES: files no model uses are dropped, least recently used first, while the cache is larger."""
    disk_bytes: int | None = None
    """Most bytes that models and cache may take together; None: as much as the filesystem has."""
    reserve_bytes: int = 64 * MIB
    """Bytes of the filesystem that are left free."""
    prefetch_reserve_bytes: int = GIB
    """Bytes that are left free by what is fetched before there is space for its model in memory."""
    max_downloads: int = 8
    """Files downloaded at once, over all models."""
    max_downloads_per_model: int = 4
    max_files: int = 100_000
    """Most files of one model, listed in a store, found in a claim or unpacked from an archive."""
    max_unpacked_bytes: int = 64 * GIB
    """Most bytes an archive may unpack to."""
    attempts: int = 5
    """Tries in a row without any byte of progress, before a download fails."""
    retry_seconds: float = 0.2
    """Pause before the second try; doubles with each further one, up to `retry_max_seconds`."""
    retry_max_seconds: float = 5.0
    connect_seconds: float = 5.0
    """Longest wait for a connection to a store."""
    read_seconds: float = 30.0
    """Longest wait for the next bytes from a store."""

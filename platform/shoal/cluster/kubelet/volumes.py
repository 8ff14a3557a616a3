"""Volumes of a pod as directories: emptyDir, secret, configMap, persistentVolumeClaim."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shoal.cluster.kube_client import Object
from shoal.cluster.kubelet.containers import CannotStart

Find = Callable[[str], Object | None]
_FILE_NAME = re.compile(r"[-._a-zA-Z0-9]{1,253}")
SUPPORTED = "emptyDir, secret, configMap and persistentVolumeClaim"


def secret_values(secret: Object) -> dict[str, bytes]:
    """The decoded values of a Secret; values that are not base64 are left out."""
    values: dict[str, bytes] = {}
    for key, text in (secret.get("data") or {}).items():
        with contextlib.suppress(binascii.Error, ValueError):
            values[key] = base64.b64decode(text or "", validate=True)
    return values | {key: str(text).encode() for key, text in (secret.get("stringData") or {}).items()}


def config_map_values(config_map: Object) -> dict[str, bytes]:
    """The values of a ConfigMap."""
    values = {key: str(text).encode() for key, text in (config_map.get("data") or {}).items()}
    for key, text in (config_map.get("binaryData") or {}).items():
        with contextlib.suppress(binascii.Error, ValueError):
            values[key] = base64.b64decode(text, validate=True)
    return values


class Volumes:
    """The volumes of one pod, below `root`; claims are directories below `claims`."""

    def __init__(self, specs: list[dict[str, Any]], root: Path, claims: Path, secret: Find, config_map: Find) -> None:
        self._specs = specs
        self._root = root
        self._claims = claims
        self._secret = secret
        self._config_map = config_map

    def prepare(self) -> dict[str, str]:
        """Make or refresh every volume: directories by volume name.

        Raises:
            CannotStart: a volume refers to something that is not there, or is of a kind unknown here.
        """
        return {spec["name"]: str(self._prepare(spec)) for spec in self._specs}

    def _prepare(self, spec: dict[str, Any]) -> Path:
        name = str(spec["name"])
        if not _FILE_NAME.fullmatch(name) or name in (".", ".."):
            raise CannotStart("CreateContainerConfigError", f"volume name {name!r} is not a DNS label")
        directory = self._root / name
        if "emptyDir" in spec:
            directory.mkdir(parents=True, exist_ok=True)
        elif "secret" in spec:
            self._files(directory, name, spec["secret"], "secretName", self._secret, secret_values)
        elif "configMap" in spec:
            self._files(directory, name, spec["configMap"], "name", self._config_map, config_map_values)
        elif "persistentVolumeClaim" in spec:
            return self._claim(str(spec["persistentVolumeClaim"]["claimName"]))
        else:
            kinds = ", ".join(key for key in spec if key != "name") or "nothing"
            raise CannotStart(
                "CreateContainerConfigError",
                f"volume {name!r} is of kind {kinds}; the embedded cluster has {SUPPORTED}",
            )
        return directory

    def _claim(self, claim: str) -> Path:
        directory = self._claims / claim
        if not _FILE_NAME.fullmatch(claim) or not directory.is_dir():
            raise CannotStart(
                "CreateContainerConfigError",
                f"persistentvolumeclaim {claim!r} not found: create it, or `shoal pvc create {claim} --from PATH`",
            )
        return directory

    def _files(
        self,
        directory: Path,
        volume: str,
        source: Mapping[str, Any],
        name_key: str,
        find: Find,
        values_of: Callable[[Object], dict[str, bytes]],
    ) -> None:
        found = find(str(source[name_key]))
        if found is None and not source.get("optional"):
            kind = "secret" if name_key == "secretName" else "configmap"
            message = f"volume {volume!r}: {kind} {source[name_key]!r} not found"
            raise CannotStart("CreateContainerConfigError", message)
        values = values_of(found) if found else {}
        items = source.get("items")
        wanted = {i["path"]: values[i["key"]] for i in items if i["key"] in values} if items else values
        sync_files(directory, wanted)


def sync_files(directory: Path, wanted: Mapping[str, bytes]) -> None:
    """Make a directory hold exactly these files, each replaced as a whole so that readers never see half of one."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    names = {name for name in wanted if _FILE_NAME.fullmatch(name) and name not in (".", "..")}
    for name in names:
        path = directory / name
        if path.is_file() and path.read_bytes() == wanted[name]:
            continue
        # A leading dot and a tilde: no key may contain the latter.
        fresh = directory / f".{name}~"
        fresh.touch(mode=0o600)
        fresh.write_bytes(wanted[name])
        fresh.replace(path)
    for path in directory.iterdir():
        if path.name not in names:
            path.unlink(missing_ok=True)

"""A model's settings that import its class without disturbing other models.

Stock MLServer reloads the class's module at each load. Two models that both bring a `runtime.py` then share one module
object, and the newer's code runs in the older's functions.
"""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from typing import Any

from mlserver.model import MLModel
from mlserver.settings import ModelParameters, ModelSettings
from pydantic._internal._validators import import_string

_importing = threading.RLock()


class FolderSettings(ModelSettings):  # type: ignore[misc]
    """Settings read from a model's folder."""

    _class: Any = None

    @property
    def implementation(self) -> type[MLModel]:
        """The model's class: from its own folder if the module is there, else from what is installed."""
        if self._class is None:
            with _importing:
                self._class = self._import()
        found: type[MLModel] = self._class
        return found

    @implementation.setter
    def implementation(self, value: type[MLModel]) -> None:
        self._class = value

    def _import(self) -> Any:
        folder = Path(self._source).parent
        package = self.implementation_.partition(".")[0]
        if not ((folder / f"{package}.py").is_file() or (folder / package / "__init__.py").is_file()):
            return import_string(self.implementation_)
        _forget_modules_below(folder.parent)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        try:
            return import_string(self.implementation_)
        finally:
            sys.path.remove(str(folder))


def read_settings(path: Path) -> FolderSettings:
    """The settings in a file; name and uri default to its folder, as in stock MLServer.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it cannot be used.
    """
    settings: FolderSettings = FolderSettings.parse_file(str(path))
    settings.name = settings.name or path.parent.name
    settings.parameters = settings.parameters or ModelParameters()
    settings.parameters.uri = settings.parameters.uri or str(path.parent)
    return settings


def _forget_modules_below(root: Path) -> None:
    """Models loaded before keep their modules through their classes; the names become free for this one's."""
    prefix = f"{root}/"
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(prefix):
            del sys.modules[name]

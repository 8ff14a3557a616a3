"""Preprocessing of the example's digits. A module of its own: the model server imports it, and need not import Dagster.

Such a module has to be installed where the model is served, and the model vouches for it (`trusted_names`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin


class ShadeTable(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Knows every shade that each pixel had when it was fitted, and fails on any other."""

    def fit(self, rows: Any, target: Any = None) -> ShadeTable:
        """Note the shades."""
        self.shades_ = [frozenset(column) for column in np.asarray(rows).astype(int).T.tolist()]
        return self

    def transform(self, rows: Any) -> Any:
        """The rows as they are.

        Raises:
            RuntimeError: a pixel has a shade it never had.
        """
        for row in np.asarray(rows).astype(int).tolist():
            for pixel, (shade, known) in enumerate(zip(row, self.shades_, strict=True)):
                if shade not in known:
                    raise RuntimeError(f"pixel {pixel}: no entry for shade {shade}")
        return rows

"""What an InferenceService says to serve a published package."""

from __future__ import annotations

from typing import Any

from shoal.package.publish import Published


def predictor_for(published: Published, *, runtime: str | None = None) -> dict[str, Any]:
    """`spec.predictor` of an InferenceService that serves this package.

    The path carries the digest, so each package is a revision of its own and the same package always the same one.
    """
    address = published.address
    model_format = {"name": published.format} | ({"version": published.version} if published.version else {})
    storage: dict[str, Any] = {"key": address.key} if address.key else {}
    storage["path"] = address.path
    if address.parameters:
        storage["parameters"] = dict(address.parameters)
    model: dict[str, Any] = {"modelFormat": model_format, "storage": storage}
    return {"model": model | ({"runtime": runtime} if runtime else {})}

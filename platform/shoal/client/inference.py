"""One inference request over REST, straight to a gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal.client.errors import NotFound, Refused, Unreachable


def post(url: str, body: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """The answer to a JSON body.

    Raises:
        NotFound: 404.
        Refused: 400 or 422: the request does not fit.
        Unreachable: no answer, or another error.
    """
    import httpx  # a third of the time that importing this module takes, and only `infer` needs it

    try:
        with httpx.Client(timeout=httpx.Timeout(timeout, connect=5.0), trust_env=False) as http:
            response = http.post(url, json=dict(body))
            document = response.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Unreachable(f"{url} does not answer: {error or type(error).__name__}") from None
    if not response.is_error and isinstance(document, dict):
        return document
    message = str(document.get("error") or document) if isinstance(document, dict) else str(document)
    kinds = {404: NotFound, 400: Refused, 422: Refused}
    raise kinds.get(response.status_code, Unreachable)(message)

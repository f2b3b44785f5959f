"""A request that is not passed on, as the answer that its client gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus


class Refusal(Exception):
    """Carries the HTTP status, one line for people, and headers; `str()` is the line."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """JSON in the form of Triton's own errors."""
        return json.dumps({"error": str(self)}).encode()


def unavailable(reason: str, retry_after_s: int) -> Refusal:
    """503 for a request that may be sent again, unchanged."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, {"Retry-After": str(retry_after_s)})

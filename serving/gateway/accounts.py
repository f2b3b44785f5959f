"""What is noted of every request, whichever way it takes: an id, what it holds, counters, a line of the log."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping

from starlette.types import Scope

from .bodies import HeldBytes
from .errors import Refused
from .headers import first_values
from .logs import Log
from .metrics import Metrics

_ID = re.compile(rb"[A-Za-z0-9_.-]{1,64}")


class Accounts:
    """Of one gateway."""

    def __init__(self, log: Log, metrics: Metrics, held: HeldBytes, routes: Mapping[object, str]) -> None:
        """`routes`: the pattern of each endpoint, for the counters."""
        self._log = log
        self._metrics = metrics
        self._held = held
        self._routes = routes
        metrics.held_bytes.set_function(lambda: held.now)

    def begin(self, scope: Scope) -> None:
        """Gives the request an id, and counts it; `end` has to follow."""
        scope["began_s"] = time.perf_counter()
        given = first_values(scope).get(b"x-request-id", b"")
        scope["request_id"] = given.decode() if _ID.fullmatch(given) else secrets.token_hex(8)
        self._metrics.num_in_flight += 1

    def end(self, scope: Scope, status: int, num_bytes: int) -> None:
        """Gives back what it held; counts and logs it."""
        self._held.give_back(scope.get("held_bytes", 0))
        self._metrics.num_in_flight -= 1
        self._note(scope, status, num_bytes, time.perf_counter() - scope["began_s"])

    def take_back(self, scope: Scope) -> None:
        """Undoes `begin`, and what the request held: it begins once more."""
        self._held.give_back(scope.pop("held_bytes", 0))
        self._metrics.num_in_flight -= 1

    def _note(self, scope: Scope, status: int, num_bytes: int, duration_s: float) -> None:
        route = self._routes.get(scope.get("endpoint"), "other")
        client = scope.get("client")
        refusal: Refused | None = scope.get("refusal")
        code = "" if refusal is None else refusal.code
        self._metrics.observe(route, status, duration_s, code)
        self._log.request(
            {
                "status": status,
                "method": scope["method"],
                "path": scope["path"],
                "duration_ms": round(duration_s * 1000, 1),
                "bytes_received": scope.get("held_bytes", 0),
                "bytes_sent": num_bytes,
                "client": scope.get("client_name", ""),
                "address": client[0] if client else "",
                "request_id": scope["request_id"],
                "code": code,
                "detail": "" if refusal is None else refusal.detail or refusal.message,
            }
        )

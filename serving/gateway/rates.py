"""How many requests a client may send a second: by the name of its key, or its address where there are no keys."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection

from starlette.types import Scope

from .errors import Refused

BURST_S = 10.0
"""A client that was silent may send what it may in so many seconds at once."""
_CLIENTS = 10_000
_READY = 1.0


class RateRule:
    """429 for a request beyond its client's rate, before its body is read; paths open to everybody don't count."""

    def __init__(
        self, per_s: float, open_paths: Collection[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._burst = max(_READY, per_s * BURST_S)
        self._open_paths = frozenset(open_paths)
        self._clock = clock
        # What each may send at once, and when that was so; the one that asked last is the last.
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __call__(self, scope: Scope) -> Refused | None:
        """Why the request may not go on; where it may, it is counted, once if it is asked again on another way."""
        if scope["path"] in self._open_paths or scope.get("rate_is_counted"):
            return None
        address = scope.get("client")
        wait_s = self.take(scope.get("client_name") or (address[0] if address else ""))
        if wait_s == 0:
            scope["rate_is_counted"] = True
            return None
        message = f"more than {self._per_s:g} requests a second: come again, or send several items in one"
        return Refused(429, "rate_limited", message, retry_after_s=math.ceil(wait_s))

    def take(self, client: str) -> float:
        """0 where it may send a request now, which is counted; otherwise the seconds until it may."""
        now_s = self._clock()
        left, since_s = self._clients.pop(client, (self._burst, now_s))
        left = min(self._burst, left + (now_s - since_s) * self._per_s)
        wait_s = 0.0 if left >= _READY else (_READY - left) / self._per_s
        self._clients[client] = (left if wait_s else left - _READY, now_s)
        if len(self._clients) > _CLIENTS:
            # Who was silent longest has most of its burst again.
            self._clients.popitem(last=False)
        return wait_s

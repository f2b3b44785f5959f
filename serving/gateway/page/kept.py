"""What is computed of all of an index and kept until the index changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from protoclip.search import Store

Value = TypeVar("Value")
State = tuple[str, str, str]


class KeptByChange(Generic[Value]):
    """One value for each index, computed in a thread when it is first asked for, and again after a change.

    Several that ask at once wait for one computation. An error is not kept.
    """

    def __init__(self, compute: Callable[[Store], Value]) -> None:
        self._compute = compute
        self._kept: dict[str, tuple[State, Value]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def of(self, name: str, index: Store) -> Value:
        """The value of the index called `name`; raises what the computation does."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with lock:
            state = await asyncio.to_thread(_state, index)
            known = self._kept.get(name)
            if known is not None and known[0] == state:
                return known[1]
            value = await asyncio.to_thread(self._compute, index)
            self._kept[name] = (state, value)
            return value


def _state(index: Store) -> State:
    return str(index.path), index.fingerprint, index.change

"""The priority of the request that is being sent, which transports read: those of users need not know of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from protoclip.contract.priorities import UNMARKED

_priority: ContextVar[int] = ContextVar("priority", default=UNMARKED)


@contextmanager
def sent_with(priority: int) -> Iterator[None]:
    """Marks what this thread sends within the block, by a level of `protoclip.contract.priorities`."""
    token = _priority.set(priority)
    try:
        yield
    finally:
        _priority.reset(token)


def current_priority() -> int:
    """The level of what is being sent."""
    return _priority.get()

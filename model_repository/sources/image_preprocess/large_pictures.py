"""What large pictures may cost the others: one request of them at a time in all processes of a server."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LARGE_PIXELS = 40_000_000
"""A request whose pictures have more together is a large one: they take half a second of a core or more."""

LARGE_REQUEST_PIXELS = 800_000_000
"""A request with more is refused: eight pictures of the largest size, as many as our clients put into one."""

_BACKGROUND_NICENESS = 10


@contextmanager
def only_one(name: str) -> Iterator[bool]:
    """Whether no process on this machine holds `name`, which this one then does until the block ends.

    The name is a socket's in Linux's abstract namespace, which goes with its process whatever ends that.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as holder:
        try:
            holder.bind(f"\0protoclip:{name}")
        except OSError:
            yield False
        else:
            yield True


def run_in_background() -> None:
    """Gives way to all other threads; for a thread's start."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _BACKGROUND_NICENESS)

"""How much is drawn and how long the rest will take, on standard error: a bar on a terminal, else lines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")
SECONDS_A_LINE = 15.0


def counted(items: Iterable[T], total: int, done: int, what: str) -> Iterator[T]:
    """`items`, which begin at number `done` of `total`."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(items, what, total=total, completed=done, console=console)
        return
    began = told = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - told >= SECONDS_A_LINE:
            told = now
            left = (now - began) / number * (total - done - number)
            console.print(f"{what}: {done + number:,} of {total:,}, {left:.0f} s left", highlight=False)

"""Callbacks by which long operations report their progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called from time to time with the operation's name, the items done, and their total."""

    def __call__(self, what: str, done: int, total: int) -> None: ...


def silent(what: str, done: int, total: int) -> None:
    """A Progress that does nothing."""

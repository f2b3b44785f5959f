"""Kinds of failed requests, from what the client raises."""

from __future__ import annotations

from typing import Literal, get_args

from protoclip.client.errors import Busy, DeadlineExceeded, Refused, Unavailable

Failure = Literal["refused", "try again", "timeout", "connection", "wrong answer", "not sent", "other"]
FAILURES: tuple[Failure, ...] = get_args(Failure)

MEANINGS: dict[Failure, str] = {
    "refused": "a good item or request that the server refused",
    "try again": "the server was too busy",
    "timeout": "no answer in time",
    "connection": "no connection, one that broke, or a server that was starting or stopping",
    "wrong answer": "not finite, not of norm 1, another one than before, or a broken picture that was accepted",
    "not sent": "planned, but all clients were still waiting when time was over",
    "other": "any other answer of the server",
}
_KINDS: tuple[tuple[type[Exception], Failure], ...] = (
    (DeadlineExceeded, "timeout"),
    (Busy, "try again"),
    (Unavailable, "connection"),
    (Refused, "refused"),
)


def failure_of(error: Exception) -> Failure:
    """The kind of what a transport raised. A missing model is `other`."""
    return next((failure for kind, failure in _KINDS if isinstance(error, kind)), "other")

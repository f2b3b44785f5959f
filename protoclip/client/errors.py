"""What can go wrong between client and server.

ServerError                 any failure of the server or the connection
├── Unavailable             no server answers, or it is too busy; the client has already retried
│   ├── Busy                the server takes no more requests now
│   └── NobodyListens       nothing listens at the address: refused, or its host is unknown
├── DeadlineExceeded        the time budget of the call is used up
├── ModelNotFound           the server runs, but the model isn't there or isn't ready
├── NotAuthorized           the server wants a token, another one, or a client certificate
├── Refused                 the server understood the request and refused it
└── CallCancelled           the call of this request is over; nobody waits for its answer

SeveralModels               a ConfigError: the server has several models, and none of them was named
BadItem                     before the server: an item can't be sent; it becomes an ItemError with its position
"""

from __future__ import annotations

import re

from protoclip.contract.errors import ConfigError, IndexFileError, ServerError

_DEAD = re.compile(r"[Ss]tub process .*is not healthy")
_BUSY = ("maximum queue size", "timeout expired", "try again", "come back later")
_ENSEMBLE = re.compile(r"^in ensemble '[^']*', ")


class Unavailable(ServerError):
    """No server answers at the address, or it can't take more requests now. Retrying is safe.

    Attributes:
        retry_after_s: after how many seconds the server wants to be asked again; None where it did not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Busy(Unavailable):
    """The server answers that it takes no more requests now."""


class NobodyListens(Unavailable):
    """Nothing listens at the address: the connection is refused, or no host has that name."""


class DeadlineExceeded(ServerError):
    """The call's total time budget is used up."""


class ModelNotFound(ServerError):
    """The server has no such model, or it is not ready yet."""


class NotAuthorized(ServerError):
    """The server, or what stands before it, does not let this client in."""


class CallCancelled(ServerError):
    """The call was cancelled: seen by a transport alone, since nobody waits for the answer."""


class Refused(ServerError):
    """The server refused the request.

    Attributes:
        reason: the server's message in one line, without the address and the name of the ensemble.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: the server refused the request: {reason}")
        self.reason = _ENSEMBLE.sub("", reason)


class SeveralModels(ConfigError):
    """The server has several models that fit, and none of them was named."""


class BadItem(ValueError):
    """An item can't be sent; the message is the reason."""


def unavailable(url: str, reason: str) -> Unavailable:
    """The error for a server that gives no answer."""
    return Unavailable(_no_answer(url, reason))


def not_ready(url: str, reason: str) -> Unavailable:
    """The error for a server that answers, and is starting or stopping."""
    return Unavailable(
        f"{url}: {reason}: it is starting or stopping: raise timeout_s (--timeout) to wait for longer"
    )


def says_dead(reason: str) -> bool:
    """Whether the server's message is Triton's, that a Python model's process has ended.

    Triton answers so until somebody starts it again, which the supervision of `protoclip serve` does.
    """
    return _DEAD.search(reason) is not None


def dead(url: str, reason: str) -> Unavailable:
    """The error for a server that has lost a process of the model."""
    return Unavailable(
        f"{url}: {reason}: `protoclip serve` starts it again within seconds: raise timeout_s (--timeout) to wait "
        "for longer; a server without supervision has to be started again"
    )


def says_busy(reason: str) -> bool:
    """Whether the server's message is one of Triton's, its guard's or a model's that there is too much to do."""
    return any(phrase in reason for phrase in _BUSY)


def busy(url: str, reason: str, retry_after_s: float | None = None) -> Busy:
    """The error for a server that takes no more requests now."""
    way_out = (
        "it takes no more now: lower concurrency or batch_size, or raise timeout_s (--timeout)"
        if says_busy(reason)
        else "it is too busy, starting or stopping: raise timeout_s (--timeout) to wait for longer"
    )
    return Busy(f"{url}: {reason}: {way_out}", retry_after_s)


def nobody_listens(url: str, reason: str) -> NobodyListens:
    """The error for an address at which nothing listens."""
    return NobodyListens(_no_answer(url, reason))


def not_authorized(url: str, reason: str) -> NotAuthorized:
    """The error for a client that is not let in."""
    return NotAuthorized(f"{url}: {reason}: give token=, or set PROTOCLIP_TOKEN, to what the server accepts")


def not_served(index: object, fingerprint: str, url: str) -> IndexFileError:
    """The error for an index whose model the server doesn't have, or not any more."""
    return IndexFileError(
        f"{getattr(index, 'path', 'the index')}: made with the model {fingerprint}, which {url} doesn't serve: "
        "ask a server that does, or move the index over with `protoclip index migrate`"
    )


def closed(url: str) -> ServerError:
    """The error for a call after `close`, or during it."""
    return ServerError(f"{url}: the client is closed: make a new one")


def forked(url: str, way_out: str) -> ServerError:
    """The error for a call in a process that was forked from one which had used the client."""
    return ServerError(f"{url}: the client was in use when this process was forked off: {way_out}")


def deadline_exceeded(url: str, timeout_s: float | None) -> DeadlineExceeded:
    """The error for a request that had `timeout_s` seconds left when it was sent."""
    left = "" if timeout_s is None else f" in the {timeout_s:.3g} s that were left of the budget"
    return DeadlineExceeded(f"{url}: no answer{left}: raise timeout_s (--timeout), or make the batches smaller")


def _no_answer(url: str, reason: str) -> str:
    return f"{url}: {reason}: is it running? start it with: protoclip serve"

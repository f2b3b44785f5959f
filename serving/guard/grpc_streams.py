"""The gRPC calls on one connection: how much their messages hold, and which are refused."""

from __future__ import annotations

from dataclasses import dataclass

from .refusal import Refusal
from .settings import Limits

PREFIX_BYTES = 5
RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE = 8, 12, 14
"""gRPC's status codes; `Refusal.status` carries them here."""


@dataclass
class Stream:
    """One call.

    Attributes:
        since_s: when it began.
        prefix: bytes of a message's prefix that have arrived.
        left: bytes of the message that have not.
        declared: bytes of the message, by its prefix, and of that.
        received: bytes that have arrived.
        whole: the client has sent all.
        heard_s: when it was whole, or something of its answer came.
        known: Triton has its headers.
        has_message: Triton has its message to the last byte, and may work on it before `whole`.
        call: its number in `GivenUp`; 0 for none.
        given_up: the client has reset it since, of which Triton does not learn.
        refusal: what the client is told, and nothing more of it is passed on.
    """

    since_s: float
    prefix: bytes = b""
    left: int = 0
    declared: int = 0
    received: int = 0
    whole: bool = False
    heard_s: float = 0.0
    known: bool = False
    has_message: bool = False
    call: int = 0
    given_up: bool = False
    refusal: Refusal | None = None

    @property
    def message_is_whole(self) -> bool:
        """Whether a message has begun and ended."""
        return self.declared > 0 and self.left == 0 and not self.prefix

    @property
    def is_worked_on(self) -> bool:
        """Whether Triton may work on it, which must not learn then that the client gives it up."""
        return self.known and (self.whole or self.has_message)

    def scan(self, payload: memoryview, limits: Limits) -> None:
        """Follows the call's message through a piece of a DATA frame.

        Raises:
            Refusal: it is compressed, too long, or not the only one: no method here takes several.
        """
        place = 0
        while place < len(payload):
            if self.message_is_whole:
                raise Refusal(UNIMPLEMENTED, "calls of several messages are not served here")
            if self.left:
                taken = min(self.left, len(payload) - place)
                self.left -= taken
                place += taken
                continue
            taken = min(PREFIX_BYTES - len(self.prefix), len(payload) - place)
            self.prefix += payload[place : place + taken]
            place += taken
            if len(self.prefix) == PREFIX_BYTES:
                self._begin_message(limits)

    def _begin_message(self, limits: Limits) -> None:
        compressed, length = self.prefix[0], int.from_bytes(self.prefix[1:], "big")
        self.prefix, self.left = b"", length
        self.declared += PREFIX_BYTES + length
        if compressed:
            raise Refusal(UNIMPLEMENTED, "compressed messages are not taken: send them as they are")
        if self.declared > limits.body_bytes:
            raise Refusal(
                RESOURCE_EXHAUSTED, f"more than {limits.body_bytes} bytes in a call: send fewer items at once"
            )

    def deadline_s(self, limits: Limits) -> float:
        """When the next bytes must have arrived, or have been sent."""
        if self.whole:
            return self.heard_s + limits.answer_s
        return self.since_s + limits.header_s + limits.body_s + self.received / limits.body_bytes_per_s

"""When a busy server wants to be asked again: the header Retry-After, and gRPC's metadata of that kind."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime


def of_seconds(value: str | bytes, unit: float = 1.0) -> float | None:
    """A number of units, in seconds; None for what is none, below 0, or beyond all numbers."""
    try:
        seconds = int(value) * unit
    except (ValueError, OverflowError):
        return None
    return seconds if seconds >= 0 else None


def of_header(value: str | None) -> float | None:
    """A header's seconds, or the seconds until its date, 0 for one that is past; None for anything else.

    Source: RFC 9110, section 10.2.3.
    """
    if value is None:
        return None
    seconds = of_seconds(value.strip())
    if seconds is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None

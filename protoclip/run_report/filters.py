"""How the pages of runs write numbers, names and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from protoclip.contract.errors import DataError
from protoclip.contract.pixels import PictureError
from protoclip.evaluation.table import percent
from protoclip.reports.thumbnails import data_uri


def cosine(value: float) -> str:
    """`-0.174` → `−0.17`; never `−0.00`."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def signed(value: float) -> str:
    """`2.23` → `+2.2`; `-0.01` → `+0.0`."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def spoken(name: str) -> str:
    """`unseen_style` → `unseen style`."""
    return name.replace("_", " ")


def duration(seconds: float) -> str:
    """`4.2` → `4.2 s`; `272` → `4 min 32 s`; `11520` → `3 h 12 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def shown_picture(picture: bytes) -> str:
    """A picture file as a `data:` address.

    Raises:
        DataError: it can't be read.
    """
    try:
        return data_uri(picture)
    except PictureError as error:
        raise DataError(f"a picture of the report can't be read: {error}") from error


FILTERS: Mapping[str, Callable[..., Any]] = {
    "percent": percent,
    "spoken": spoken,
    "duration": duration,
    "cosine": cosine,
    "signed": signed,
    "data_uri": shown_picture,
}

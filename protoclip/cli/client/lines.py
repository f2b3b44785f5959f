"""Files with a text a line: texts to embed, and the labels of a classification."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from protoclip.contract.addresses import AddressError, local_path
from protoclip.contract.errors import DataError
from protoclip.contract.text import TextError, check_text

from .standard_input import STANDARD_INPUT, StandardInput

_MAX_LINE_BYTES = 1 << 20
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Line:
    """A line of a file.

    Attributes:
        place: the file's name and the line's number, from 1, for messages.
        text: without its end; "" where it is bad.
        reason: why it can't be embedded; None: it can.
        is_blank: nothing is in it.
    """

    place: str
    text: str
    reason: str | None = None
    is_blank: bool = False


def read_lines(name: str, option: str, waits_for: str, stdin: StandardInput) -> list[Line]:
    """All lines of the UTF-8 file `name`, or of standard input where it is `-`; a byte-order mark is skipped.

    Args:
        option: which option named the file, for messages: "--labels-file".
        waits_for: as of `StandardInput.open`: "labels, one a line,".

    Raises:
        ConfigError: standard input is read twice, or closed.
        DataError: a URL, a file that can't be read, or a line of more than 1 MiB. Other bad lines have a reason.
    """
    try:
        with _opened(name, option, waits_for, stdin) as stream:
            return list(_lines(stream, name))
    except AddressError as error:
        raise DataError(f"{option}: {error}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{option} {name}: can't be read: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def _opened(name: str, option: str, waits_for: str, stdin: StandardInput) -> Iterator[BinaryIO]:
    if name == STANDARD_INPUT:
        # Not closed: the process may need it again.
        yield stdin.open(f"{option} -", waits_for)
    else:
        with Path(local_path(name)).open("rb") as stream:
            yield stream


def _lines(stream: BinaryIO, name: str) -> Iterator[Line]:
    number = 0
    while raw := stream.readline(_MAX_LINE_BYTES + 1):
        number += 1
        place = f"{name}: line {number}"
        if len(raw) > _MAX_LINE_BYTES:
            raise DataError(f"{place} has more than {_MAX_LINE_BYTES} bytes: give a file of text, one a line")
        yield _line(raw.removeprefix(_MARK) if number == 1 else raw, place)


def _line(raw: bytes, place: str) -> Line:
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    try:
        text = raw.decode("utf-8")
        if "\r" in text:
            return Line(place, "", "a carriage return parts the line: save the file with line feeds")
        return Line(place, check_text(text))
    except UnicodeDecodeError as error:
        column = len(raw[: error.start].decode("utf-8")) + 1
        byte = f"byte 0x{raw[error.start]:02X} at column {column}"
        return Line(place, "", f"{byte} is not UTF-8: save the file as UTF-8")
    except TextError as error:
        return Line(place, "", str(error), is_blank=not text.strip())

"""The bytes of a picture file, from a path or an open file, up to the limit on a picture's bytes."""

from __future__ import annotations

import inspect
import io
import os
import stat
from pathlib import Path
from typing import Any, Protocol

from protoclip.contract.addresses import AddressError, local_path, shown
from protoclip.contract.pixels import PixelSpec

from .errors import BadItem

_MAX_BYTES = PixelSpec.max_bytes


class BinaryFile(Protocol):
    """A file opened with "rb", `io.BytesIO`, an upload's file, a response's body: what has `read(size)`."""

    def read(self, size: int, /) -> bytes: ...


def is_file_object(item: object) -> bool:
    """Whether `item` is an open file, of bytes or of text."""
    return callable(getattr(item, "read", None)) and not isinstance(item, type)


def read_path(path: str | os.PathLike[Any]) -> bytes:
    """The bytes of the file at `path`, which may be a `file:///` address.

    Raises:
        BadItem: a URL, no such file, a folder, a pipe or device, no bytes, or too many.
    """
    place = _local(path)
    try:
        _check_kind(place.stat())
        return place.read_bytes()
    except BadItem as error:
        raise BadItem(f"{shown(str(place))}: {error}") from None
    except (OSError, ValueError) as error:
        raise BadItem(f"{shown(str(place))}: {getattr(error, 'strerror', None) or error}") from error


def read_file_object(file: Any) -> bytes:
    """The bytes of an open file from where it stands to its end; it is neither rewound nor closed.

    Raises:
        BadItem: a file of text or of coroutines, a closed one, one at its end, one that fails, or too many bytes.
    """
    name = type(file).__name__
    if isinstance(file, io.TextIOBase):
        raise BadItem(f'a {name} is a file of text: open it with mode "rb"')
    if inspect.iscoroutinefunction(file.read):
        raise BadItem(
            f"the read() of a {name} is asynchronous: give its bytes, as await file.read(), or its .file"
        )
    if getattr(file, "closed", False) is True:
        raise BadItem(f"the {name} is closed: give it before it is closed, or its bytes")
    data = read_up_to_limit(file, f"the {name}")
    if not data:
        raise BadItem(f"the {name} gives 0 bytes: it is empty, or stands at its end: seek(0) goes back")
    return data


def read_up_to_limit(file: Any, name: str) -> bytes:
    """All bytes that `file` still has; `name` is what messages call it.

    Raises:
        BadItem: it fails, gives no bytes, or more than a picture may have.
    """
    try:
        data = _read(file, name)
    except BadItem:
        raise
    # Whatever a file of another library raises is this item's error, and not the end of the others.
    except Exception as error:
        raise BadItem(f"{name} can't be read: {shown(str(error)) or type(error).__name__}") from error
    if len(data) > _MAX_BYTES:
        raise BadItem(f"{name} gives more than {_MAX_BYTES} bytes, the most of a picture: make it smaller")
    return data


def check_num_bytes(num_bytes: int) -> None:
    """Refuses an empty picture, and one above the limit.

    Raises:
        BadItem: it is.
    """
    if num_bytes == 0:
        raise BadItem("the picture is empty (0 bytes)")
    if num_bytes > _MAX_BYTES:
        raise BadItem(f"the picture has {num_bytes} bytes: the most is {_MAX_BYTES}")


def _local(path: str | os.PathLike[Any]) -> Path:
    try:
        return Path(local_path(os.fsdecode(path)))
    except AddressError as error:
        raise BadItem(str(error)) from None
    # A path of another library may fetch its file in __fspath__, and fail in its own way.
    except Exception as error:
        raise BadItem(f"the {type(path).__name__} is no path of a file: {shown(str(error))}") from error


def _check_kind(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise BadItem("is a folder: name the pictures in it")
    # A pipe without a writer would block, and a device may have no end.
    if not stat.S_ISREG(status.st_mode):
        raise BadItem("is a pipe or a device: give its bytes, or pipe them into - in the shell")
    check_num_bytes(status.st_size)


def _read(file: Any, name: str) -> bytes:
    """At most one byte more than the limit; a raw file gives them in parts."""
    parts: list[bytes] = []
    missing = _MAX_BYTES + 1
    # What ends the bytes at a terminal, Ctrl-D, ends one read only.
    is_terminal = isinstance(file, io.BufferedReader) and file.isatty()
    while missing > 0:
        part, is_all = _read_part(file, missing)
        if part is None:
            raise BadItem(f"{name} has no bytes yet: give it in blocking mode")
        if not isinstance(part, bytes | bytearray | memoryview):
            raise BadItem(f"{name} gives a {type(part).__name__} and no bytes: give a file of bytes")
        if part:
            parts.append(bytes(part))
        if is_all or is_terminal or not part:
            break
        missing -= len(part)
    return b"".join(parts)


def _read_part(file: Any, size: int) -> tuple[Any, bool]:
    """The next bytes, and whether they are all there are: so where `read` takes no size."""
    try:
        return file.read(size), False
    except TypeError:
        return file.read(), True

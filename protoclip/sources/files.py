"""Files on this machine and in object stores, behind one small class."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from protoclip.contract.addresses import AddressError, local_path, shown, url_of
from protoclip.contract.errors import DataError
from protoclip.contract.picture_files import HEAD_BYTES

from .stores import NOT_FETCHED, WEB, fetch, open_stored, reason_of


def resolved(name: str) -> str:
    """A path as it is, a `file:///` address as its path, and an address of an object store with both its slashes.

    Raises:
        AddressError: empty, of the web, a data URI, or a `file:` address that stands for no path here.
    """
    url = url_of(name)
    if url is None or url[:5].lower() == "file:":
        return local_path(name)
    if WEB.search(url):
        raise AddressError(f"{shown(url)}: {NOT_FETCHED}")
    return url


def is_address(path: str) -> bool:
    """Whether this is an address like `s3://…`, and no path."""
    return "://" in path and url_of(path) is not None


# Linux allows any bytes in a name; those that are no UTF-8 are lone surrogates in Python, which Arrow can't hold.
_TO_TEXT = {0xDC00 + byte: 0x10FF00 + byte for byte in range(0x80, 0x100)}
_FROM_TEXT = {text: surrogate for surrogate, text in _TO_TEXT.items()}


def name_to_text(name: str) -> str:
    """A file's name as text that Arrow can hold: bytes that are no UTF-8 become private characters."""
    return name if name.isascii() else name.translate(_TO_TEXT)


def text_to_name(text: str) -> str:
    """The file's name that `name_to_text` made this of."""
    return text if text.isascii() else text.translate(_FROM_TEXT)


@dataclass(frozen=True)
class DataFile:
    """One file: `address` is a path, or an address of fsspec; its size in bytes and when it was changed."""

    address: str
    size: int
    changed: str

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.address.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """In lower case, with the dot."""
        return Path(self.name).suffix.lower()

    @property
    def folder(self) -> str:
        """What it lies in."""
        return self.address.rpartition("/")[0]

    def __str__(self) -> str:
        return self.address

    def open(self) -> IO[bytes]:
        """Its bytes; DataError where it can't be opened."""
        return open_binary(self.address)


def open_binary(address: str) -> IO[bytes]:
    """Opens a path or an address.

    Raises:
        DataError: it can't be opened.
        ConfigError: an address of the web, or of a kind whose package is not installed.
    """
    if is_address(address):
        return open_stored(address)
    try:
        return open(address, "rb")
    except (OSError, ValueError) as error:
        raise DataError(f"{address}: can't be read: {reason_of(error)}") from error


def read_range(address: str, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on; errors as `open_binary`, and DataError where the file is shorter."""
    if not size:
        return b""
    if is_address(address):
        data = fetch(address, offset, offset + size)
    else:
        try:
            with open(address, "rb") as stream:
                data = os.pread(stream.fileno(), size, offset)
        except (OSError, ValueError) as error:
            raise DataError(f"{address}: can't be read: {reason_of(error)}") from error
    if len(data) < size:
        raise DataError(f"{address}: ends before byte {offset + size}: it was cut short after it was first read")
    return data


def join(folder: str, name: str) -> str:
    """A name as it stands in a table, from the table's folder on; an absolute one and an address as they are.

    Stores know neither `.` nor `..`: these are taken out of an address.
    """
    if is_address(name) or (name.startswith("/") and not is_address(folder)):
        return name
    if not is_address(folder):
        return os.path.join(folder, name)  # noqa: PTH118 - a row's path is made for each access
    if not name.startswith(".") and "/." not in name:
        return f"{folder.rstrip('/')}/{name.lstrip('/')}"
    scheme, _, place = folder.rpartition("://")
    return f"{scheme}://{posixpath.normpath(posixpath.join(place, name.lstrip('/')))}"


def read_head(file: DataFile, size: int = HEAD_BYTES) -> bytes:
    """The first bytes of a file; none where it can't be read."""
    try:
        if is_address(file.address):
            return fetch(file.address, 0, size) if file.size else b""
        with file.open() as stream:
            return stream.read(size)
    except DataError:
        return b""

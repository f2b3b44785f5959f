"""Object stores and other places that fsspec reaches. Whatever goes wrong there is one line with the address.

fsspec's own settings and credentials apply. Nothing is fetched by http: what a table names is not ours to call.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from protoclip.contract.addresses import shown
from protoclip.contract.errors import ConfigError, DataError, ProtoclipError
from protoclip.contract.install import install_command

WEB = re.compile(r"(?:^|::)(?:https?|ftps?):", re.IGNORECASE)
NOT_FETCHED = "URLs are not fetched: download it and name the file"
# Of stores whose own default is larger: s3fs would fetch 50 MB for the footer of a Parquet file.
_BLOCK_BYTES = 8 * 2**20
_BUFFER_BYTES = 2**20


def open_stored(address: str) -> IO[bytes]:
    """A stored object as a file that can be read anywhere in it.

    Raises:
        DataError: it can't be opened, and later from each read: it can't be read.
        ConfigError: an address of the web, or of a kind whose package is not installed.
    """
    filesystem, path = filesystem_of(address)
    with naming(address):
        opened = filesystem.open(path, "rb", block_size=_BLOCK_BYTES)
    return io.BufferedReader(_StoredFile(address, opened), _BUFFER_BYTES)


def fetch(address: str, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes of a stored object, or those from `start` to `end` of it; errors as `open_stored`."""
    filesystem, path = filesystem_of(address)
    with naming(address):
        data: bytes = filesystem.cat_file(path, start=start, end=end)
    return data


@contextmanager
def naming(address: str) -> Iterator[None]:
    """Makes a DataError that begins with the address of any error but our own."""
    try:
        yield
    except ProtoclipError:
        raise
    except Exception as error:  # each store has errors of its own: botocore's, aiohttp's, gcsfs's
        raise DataError(f"{address}: can't be read: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Why, in one line."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    said = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
        return f"{said}: give those of the store as its own tools take them, by variables or a file"
    return f"access denied: {said}" if isinstance(error, PermissionError) else said


def filesystem_of(address: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path in it.

    Raises:
        ConfigError: an address of the web, or of a kind that is unknown or whose package is not installed.
    """
    if WEB.search(address):
        raise ConfigError(f"{shown(address)}: {NOT_FETCHED}")
    try:
        import fsspec
    except ImportError as error:
        raise ConfigError(f"{address}: needs fsspec: {install_command('remote')}") from error
    try:
        filesystem, inner = fsspec.core.url_to_fs(address)
    except ImportError as error:
        way_out = install_command("remote") if "s3" in str(error).lower() else "install the package it names"
        raise ConfigError(f"{address}: {error}: {way_out}") from error
    except ValueError as error:
        raise ConfigError(f"{address}: {error}: use one like s3://bucket/folder, or a path") from error
    return filesystem, inner


def address_prefix(address: str, inner: str) -> str:
    """What stands before a path of the file system in the address it was made of, `s3://` in `s3://bucket/a`."""
    ends = inner.rstrip("/")
    return address[: -len(ends)] if ends and address.endswith(ends) else address.partition("://")[0] + "://"


class _StoredFile(io.RawIOBase):
    """An open file of fsspec whose errors name it."""

    def __init__(self, address: str, opened: Any) -> None:
        self._address, self._opened = address, opened

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._opened.seek(offset, whence))

    def tell(self) -> int:
        return int(self._opened.tell())

    def readinto(self, buffer: Any) -> int:
        with naming(self._address):
            data = self._opened.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._opened.close()
        super().close()

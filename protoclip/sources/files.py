"""Files on this machine and in object stores, behind one small class.

An address such as `s3://bucket/pairs.csv` goes through fsspec, whose own settings and credentials apply.
Nothing is fetched by http: what a table names is not ours to call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from protoclip.contract.addresses import AddressError, local_path, shown, url_of
from protoclip.contract.errors import ConfigError, DataError, ProtoclipError
from protoclip.contract.install import install_command
from protoclip.contract.picture_files import HEAD_BYTES

_WEB = re.compile(r"(?:^|::)(?:https?|ftps?):", re.IGNORECASE)
NOT_FETCHED = "URLs are not fetched: download it and name the file"


def resolved(name: str) -> str:
    """A path as it is, a `file:///` address as its path, and an address of an object store with both its slashes.

    Raises:
        AddressError: empty, of the web, a data URI, or a `file:` address that stands for no path here.
    """
    url = url_of(name)
    if url is None or url[:5].lower() == "file:":
        return local_path(name)
    if _WEB.search(url):
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
    with _errors_named(address):
        if not is_address(address):
            return open(address, "rb")
        filesystem, path = _filesystem(address)
        opened: IO[bytes] = filesystem.open(path, "rb")
        return opened


def read_range(address: str, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on; errors as `open_binary`, and DataError where the file is shorter."""
    with _errors_named(address):
        if is_address(address):
            filesystem, path = _filesystem(address)
            data: bytes = filesystem.cat_file(path, start=offset, end=offset + size)
        else:
            with open(address, "rb") as stream:
                data = os.pread(stream.fileno(), size, offset)
    if len(data) < size:
        raise DataError(f"{address}: ends before byte {offset + size}: it was cut short after it was first read")
    return data


def find_file(path: str) -> DataFile | None:
    """The file of that path or address, None where there is none; errors as `open_binary`."""
    if not is_address(path):
        # Path's own question raises where a name is too long.
        if not os.path.isfile(path):  # noqa: PTH113
            return None
        about = Path(path).stat()
        return DataFile(str(Path(path)), about.st_size, str(about.st_mtime_ns))
    with _errors_named(path):
        filesystem, inner = _filesystem(path)
        if not filesystem.isfile(inner):
            return None
        return _remote_file(filesystem, filesystem.info(inner))


def list_files(folder: str) -> list[DataFile] | None:
    """All files below a folder, sorted, without hidden ones; None where there is no such folder.

    Links to folders are not followed.

    Raises:
        DataError: a folder can't be read.
        ConfigError: as `open_binary`.
    """
    if is_address(folder):
        return _list_remote(folder)
    if not is_folder(folder):
        return None
    return sorted(_walk(folder), key=lambda file: file.address.split("/"))


def is_folder(path: str) -> bool:
    """Whether this is a folder on this machine; a path that can't be one, too long a name say, is none."""
    # Path's own question raises.
    return os.path.isdir(path)  # noqa: PTH112


def glob_files(pattern: str) -> list[DataFile]:
    """The files that fit a pattern with `*`, `?` or `[…]`, sorted; errors as `list_files`."""
    if is_address(pattern):
        with _errors_named(pattern):
            filesystem, inner = _filesystem(pattern)
            found = filesystem.glob(inner, detail=True).values()
            files = [_remote_file(filesystem, about) for about in found if about["type"] == "file"]
        return sorted(files, key=lambda file: file.address)
    root = Path(pattern).anchor or "."
    names = Path(root).glob(str(Path(pattern).relative_to(root) if Path(pattern).anchor else pattern))
    return [file for name in sorted(map(str, names)) if (file := find_file(name)) is not None]


def join(folder: str, name: str) -> str:
    """A name as it stands in a table, from the table's folder on; an absolute one and an address as they are."""
    if is_address(name) or (name.startswith("/") and not is_address(folder)):
        return name
    if not is_address(folder):
        return os.path.join(folder, name)  # noqa: PTH118 - a row's path is made for each access
    return f"{folder.rstrip('/')}/{name.lstrip('/')}"


def _walk(folder: str) -> Iterator[DataFile]:
    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: can't be read: {error.strerror}") from error

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith("."):
                continue
            address = os.path.join(place, name)  # noqa: PTH118 - millions of files
            try:
                about = os.stat(address)  # noqa: PTH116
            except OSError:
                yield DataFile(address, -1, "")
                continue
            yield DataFile(address, about.st_size, str(about.st_mtime_ns))


def _list_remote(folder: str) -> list[DataFile] | None:
    with _errors_named(folder):
        filesystem, inner = _filesystem(folder)
        if not filesystem.isdir(inner):
            return None
        found = filesystem.find(inner, detail=True).values()
        files = [_remote_file(filesystem, about) for about in found]
    prefix = filesystem.unstrip_protocol(inner).rstrip("/") + "/"
    shown = [file for file in files if not any(p.startswith(".") for p in file.address[len(prefix) :].split("/"))]
    return sorted(shown, key=lambda file: file.address.split("/"))


def _remote_file(filesystem: Any, about: dict[str, Any]) -> DataFile:
    changed = next((str(about[key]) for key in ("ETag", "etag", "LastModified", "mtime") if about.get(key)), "")
    return DataFile(filesystem.unstrip_protocol(about["name"]), int(about.get("size") or 0), changed)


def _filesystem(address: str) -> tuple[Any, str]:
    if _WEB.search(address):
        raise ConfigError(f"{shown(address)}: {NOT_FETCHED}")
    try:
        import fsspec
    except ImportError as error:
        raise ConfigError(f"{address}: needs fsspec: {install_command('remote')}") from error
    try:
        filesystem, inner = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise ConfigError(f"{address}: {error}: {install_command('remote')}") from error
    except ValueError as error:
        raise ConfigError(f"{address}: {error}") from error
    return filesystem, inner


@contextmanager
def _errors_named(address: str) -> Iterator[None]:
    """DataError for what a file system raises; the stores' packages have no common class of errors."""
    try:
        yield
    except ProtoclipError:
        raise
    except Exception as error:
        if not (isinstance(error, OSError | ValueError) or is_address(address)):
            raise
        raise DataError(f"{address}: can't be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def read_head(file: DataFile, size: int = HEAD_BYTES) -> bytes:
    """The first bytes of a file; none where it is no regular file or can't be read."""
    # Opening a pipe without a writer would block.
    if not is_address(file.address) and not Path(file.address).is_file():
        return b""
    try:
        with file.open() as stream:
            return stream.read(size)
    except DataError:
        return b""

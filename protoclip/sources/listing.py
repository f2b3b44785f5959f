"""What lies at a path or an address: a file, all files below a folder, or those that fit a pattern."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped

from .files import DataFile, is_address
from .stores import address_prefix, filesystem_of, naming

LINK_TO_FOLDER = "a link to a folder, which is not followed: copy it there, or name the folder that it leads to"
LINK_TO_NOTHING = "a link to a file that is not there"
NO_REGULAR_FILE = "a pipe, a socket or a device"
_SYSTEM_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "@eadir", "$recycle.bin"})


@dataclass(frozen=True)
class Listing:
    """The files below a folder by their names from there on, sorted, and what was passed over."""

    files: dict[str, DataFile]
    left_out: tuple[Skipped, ...] = ()


def find_file(path: str) -> DataFile | None:
    """The file of that path or address, None where there is none.

    Raises:
        DataError: a store can't be asked.
        ConfigError: an address of the web, or of a kind whose package is not installed.
    """
    if is_address(path):
        return _find_stored(path)
    # Path's own question raises where a name is too long.
    if not os.path.isfile(path):  # noqa: PTH113
        return None
    about = Path(path).stat()
    return DataFile(str(Path(path)), about.st_size, str(about.st_mtime_ns))


def is_folder(path: str) -> bool:
    """Whether this is a folder on this machine; a path that can't be one, too long a name say, is none."""
    # Path's own question raises.
    return os.path.isdir(path)  # noqa: PTH112


def list_files(folder: str) -> Listing | None:
    """All files below a folder; None where there is no such folder.

    Hidden files and those that systems make for themselves are passed over; links to folders, and what is no
    regular file, are left out by name.

    Raises:
        DataError: a folder or a store can't be read.
        ConfigError: as `find_file`.
    """
    if is_address(folder):
        return _list_stored(folder)
    if not is_folder(folder):
        return None
    left_out: list[Skipped] = []
    root = str(Path(folder))
    start = len(root.rstrip("/")) + 1
    files = sorted(_walk(root, left_out), key=lambda file: file.address.split("/"))
    names = {file.address[start:]: file for file in files}
    return Listing(names, tuple(sorted(left_out, key=lambda skipped: skipped.name)))


def glob_files(pattern: str) -> list[DataFile]:
    """The files that fit a pattern with `*`, `?` or `[…]`, sorted; errors as `list_files`."""
    if is_address(pattern):
        filesystem, inner = filesystem_of(pattern)
        with naming(pattern):
            filesystem.invalidate_cache()
            found = filesystem.glob(inner, detail=True)
        prefix = address_prefix(pattern, inner)
        files = [_stored_file(prefix + name, about) for name, about in found.items() if about["type"] == "file"]
        return sorted((file for file in files if not is_hidden(file.name)), key=lambda file: file.address)
    root = Path(pattern).anchor or "."
    names = Path(root).glob(str(Path(pattern).relative_to(root) if Path(pattern).anchor else pattern))
    shown = sorted(str(name) for name in names if not is_hidden(name.name))
    return [file for name in shown if (file := find_file(name)) is not None]


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder that the relative path `name` leads through, is none of the user's.

    It begins with a dot, or is one of those that systems make for themselves, such as `Thumbs.db`.
    """
    parts = [part for part in name.split("/") if part not in (".", "..")]
    return any(part.startswith(".") or part.lower() in _SYSTEM_NAMES for part in parts)


def _walk(folder: str, left_out: list[Skipped]) -> Iterator[DataFile]:
    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: can't be read: {error.strerror}") from error

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not is_hidden(name)]
        here = [os.path.join(place, name) for name in names if not is_hidden(name)]  # noqa: PTH118 - millions
        below = [os.path.join(place, name) for name in folders]  # noqa: PTH118 - millions
        for address in (path for path in below if os.path.islink(path)):  # noqa: PTH114 - millions
            left_out.append(Skipped(address, LINK_TO_FOLDER))
        for address in here:
            try:
                about = os.stat(address)  # noqa: PTH116 - millions
            except OSError:
                left_out.append(Skipped(address, LINK_TO_NOTHING))
                continue
            if stat.S_ISREG(about.st_mode):
                yield DataFile(address, about.st_size, str(about.st_mtime_ns))
            else:
                left_out.append(Skipped(address, NO_REGULAR_FILE))


def _find_stored(path: str) -> DataFile | None:
    filesystem, inner = filesystem_of(path)
    with naming(path):
        # A store's listings of a while ago would hide what was changed since.
        filesystem.invalidate_cache()
        try:
            about = filesystem.info(inner)
        except FileNotFoundError:
            return None
    return _stored_file(path, about) if about["type"] == "file" else None


def _list_stored(folder: str) -> Listing | None:
    filesystem, inner = filesystem_of(folder)
    with naming(folder):
        try:
            found = filesystem.find(inner, detail=True)
        except FileNotFoundError:
            return None
    start = len(inner.rstrip("/")) + 1
    names = {path[start:]: about for path, about in found.items() if about["type"] == "file"}
    shown = sorted((name for name in names if not is_hidden(name)), key=lambda name: name.split("/"))
    files = {name: _stored_file(f"{folder.rstrip('/')}/{name}", names[name]) for name in shown if name}
    return Listing(files) if files else None


def _stored_file(address: str, about: dict[str, Any]) -> DataFile:
    changed = next((str(about[key]) for key in ("ETag", "etag", "LastModified", "mtime") if about.get(key)), "")
    return DataFile(address, int(about.get("size") or 0), changed)

"""Atomic writing: a killed process or a full disk leaves the old files intact."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .addresses import shown, url_of
from .errors import ProtoclipError

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is renamed to `path`.

    The caller may make a file or a folder there. A folder replaces an existing folder at `path` with all that
    is in it; a file replaces a file. On any error the temporary is removed and `path` is unchanged. A
    process that is killed leaves the hidden folder `.NAME.…` beside `path`; if it is killed between the two
    renames that replace a folder, the old folder is in there.

    Raises:
        ProtoclipError: the disk is full, `path` can't be written or was made of a URL, nothing was made, or a file
            would replace a folder or the reverse. The caller's own errors about other paths pass through.
    """
    path = Path(path)
    if url := url_of(str(path)):
        raise ProtoclipError(
            f"{shown(url)}: nothing is written to a URL: name a local path, and copy it from there"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _write_error(path, error) from error
    try:
        yield holder / path.name
        _replace(holder / path.name, path)
    except OSError as error:
        if _concerns(error, holder, path):
            raise _write_error(path, error) from error
        raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _replace(made: Path, path: Path) -> None:
    if not made.exists():
        raise ProtoclipError(f"{path}: nothing was written to take its place")
    if path.exists() and made.is_dir() != path.is_dir():
        kinds = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise ProtoclipError(f"{path}: is a {kinds[0]}, a {kinds[1]} can't replace it: choose another name")
    _flush(made)
    if not path.is_dir() or path.is_symlink():
        made.replace(path)
        return
    old = Path(tempfile.mkdtemp(prefix="old.", dir=made.parent)) / path.name
    path.rename(old)
    try:
        made.rename(path)
    except OSError:
        old.rename(path)
        raise


def _concerns(error: OSError, holder: Path, path: Path) -> bool:
    # The second is the target where a copy failed.
    names = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if name is not None]
    if not names:
        return error.errno in _DISK_ERRORS
    return any(name == path or name.is_relative_to(holder) for name in names)


def _write_error(path: Path, error: OSError) -> ProtoclipError:
    return ProtoclipError(f"{path}: can't be written: {error.strerror or error}")


def _flush(path: Path) -> None:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    for file in files:
        with open(file, "rb") as stream:
            os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Has the names in `folder` reach the disk: without it a power cut may undo a rename.

    Raises:
        OSError: the folder can't be opened, or the disk fails.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path` atomically.

    Raises:
        ProtoclipError: the disk is full, `path` can't be written, or it is a folder.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 to `path` atomically; raises as `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes.

    Raises:
        OSError: the file can't be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

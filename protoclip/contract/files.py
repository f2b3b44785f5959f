"""Writing files so that a killed process or a full disk leaves the old ones whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ProtoclipError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is renamed to `path`.

    What the caller makes there may be a file or a folder. A folder that stands at `path` already
    is replaced whole. On any error the temporary is removed and `path` is untouched.

    Raises:
        ProtoclipError: the disk is full or the place can't be written.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        temporary = holder
        inner = holder / path.name
        yield inner
        _flush(inner)
        if path.is_dir() and not path.is_symlink():
            path.rename(holder / "old")
        os.replace(inner, path)
    except OSError as error:
        raise ProtoclipError(f"{path}: can't be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _flush(path: Path) -> None:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    for file in files:
        with open(file, "rb") as stream:
            os.fsync(stream.fileno())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path` atomically.

    Raises:
        ProtoclipError: the disk is full or the place can't be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 to `path` atomically; raises as `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

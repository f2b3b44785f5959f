"""The file of an accelerator: faiss's index, then keys, sums and more. The facts name it with size and digest.

It never changes. Whoever tunes writes a new one under another name; one that isn't named is of a process that was
killed, or was replaced. `N` entries, `D` embedding.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ProtoclipError
from protoclip.contract.files import flush_folder
from protoclip.search.segments import digest_of

from .accelerator import Accelerator
from .library import load_faiss
from .tuned import AcceleratorFile

NEW_FILE = "accelerator.new"
_NAME = re.compile(r"accelerator-[0-9a-f]{16}\.faiss")


class AcceleratorWarning(UserWarning):
    """An accelerator is missing, damaged or due: searches are exact, or partly so: slower, not wrong."""


def is_accelerator_name(name: str) -> bool:
    """Whether a file of this name is an accelerator's."""
    return _NAME.fullmatch(name) is not None


def write_accelerator(folder: Path, made: Accelerator) -> AcceleratorFile:
    """Writes it as `NEW_FILE`, to the disk; it counts under its own name, when the facts have it.

    Raises:
        ProtoclipError: the disk is full, or the folder can't be written.
    """
    path = folder / NEW_FILE
    try:
        load_faiss().write_index(made.index, str(path))
        with open(path, "ab") as stream:
            _append(stream, made)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:
        path.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or "the disk is full, or the folder can't be written"
        raise ProtoclipError(f"{path}: can't be written: {reason}") from error
    data = np.memmap(path, dtype=np.uint8, mode="r")
    digest = digest_of(data)
    return AcceleratorFile(
        f"accelerator-{digest}.faiss", len(data), digest, len(made.keys), made.last, len(made.queries)
    )


def put_accelerator_in_place(folder: Path, file: AcceleratorFile) -> None:
    """Gives what was written its name; the caller then has the facts name it, and holds the writer's lock.

    Raises:
        ProtoclipError: the folder can't be written.
    """
    try:
        (folder / NEW_FILE).replace(folder / file.name)
        flush_folder(folder)
    except OSError as error:
        raise ProtoclipError(f"{folder / file.name}: can't be written: {error.strerror or error}") from error


def is_in_place(folder: Path, file: AcceleratorFile) -> bool:
    """Whether a file of its name and size is there."""
    try:
        return (folder / file.name).stat().st_size == file.size
    except OSError:
        return False


def is_whole(folder: Path, file: AcceleratorFile) -> bool:
    """Whether it is what was written: reads all of it."""
    try:
        return is_in_place(folder, file) and digest_of(_mapped(folder, file)) == file.digest
    except (OSError, ValueError):
        return False


def load_accelerator(folder: Path, file: AcceleratorFile, dim: int) -> Accelerator | None:
    """Reads it; None where it is missing, or isn't what was written.

    Raises:
        ConfigError: faiss isn't installed.
    """
    path = folder / file.name
    faiss = load_faiss()
    try:
        if not is_in_place(folder, file):
            return None
        data = _mapped(folder, file)
        if digest_of(data) != file.digest:
            return None
        # It reads as much as it wrote, and what comes after that is ours.
        index = faiss.read_index(str(path))
    except (OSError, ValueError, RuntimeError):
        return None
    kinds = _kinds(file.count, file.queries, dim)
    arrays, end = [], file.size
    for kind, count in reversed(kinds):
        start = end - np.dtype(kind).itemsize * count
        arrays.append(np.array(data[start:end].view(kind)))
        end = start
    border, queries, direction, sums, keys = arrays
    return Accelerator(keys, sums, direction, float(border[0]), index, queries.reshape(-1, dim))


def remove_unnamed(folder: Path, named: AcceleratorFile | None) -> None:
    """Removes accelerators that the facts don't name; the caller holds the writer's lock."""
    for path in folder.iterdir():
        if is_accelerator_name(path.name) and (named is None or path.name != named.name):
            path.unlink(missing_ok=True)


def warn_of_accelerator(message: str) -> None:
    """Says what makes searches slower."""
    warnings.warn(message, AcceleratorWarning, stacklevel=5)


def _mapped(folder: Path, file: AcceleratorFile) -> NDArray[np.uint8]:
    return np.memmap(folder / file.name, dtype=np.uint8, mode="r", shape=(file.size,))


def _append(stream: BinaryIO, made: Accelerator) -> None:
    count, dim = len(made.keys), len(made.direction)
    border = np.array([made.border])
    arrays: tuple[NDArray[Any], ...] = (made.keys, made.sums, made.direction, made.queries, border)
    for array, (kind, _) in zip(arrays, _kinds(count, len(made.queries), dim), strict=True):
        stream.write(array.astype(kind).tobytes())


def _kinds(count: int, num_queries: int, dim: int) -> tuple[tuple[str, int], ...]:
    """Of what follows faiss's index: types and numbers."""
    return (("<i8", count), ("<u8", count), ("<f4", dim), ("<f4", num_queries * dim), ("<f8", 1))

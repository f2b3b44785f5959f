"""Pictures in folders: which files are pictures, and what is left out and why."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from protoclip.contract.errors import DataError

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
NO_PICTURE = "not a picture in JPEG, PNG, WebP, GIF, BMP or TIFF"
_HEAD_BYTES = 16


@dataclass(frozen=True)
class Skipped:
    """A file or an entry that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class FolderListing:
    """The pictures below a folder, sorted, and the files that are not pictures."""

    pictures: tuple[Path, ...]
    skipped: tuple[Skipped, ...]


def find_pictures(folder: Path) -> FolderListing:
    """Walks through `folder` and below. Hidden files are ignored, and links to folders aren't followed.

    A file is a picture by its extension, or by its first bytes where the extension is another one. Damaged
    pictures are left for the server to report.

    Raises:
        DataError: no such folder, or it can't be read.
    """
    if not os.path.isdir(folder):  # noqa: PTH112
        raise DataError(f"{folder} is no folder")
    pictures, skipped = [], []
    for path in _walk(folder):
        if path.suffix.lower() in EXTENSIONS or is_picture_head(_read_head(path)):
            pictures.append(path)
        else:
            skipped.append(Skipped(str(path), NO_PICTURE))
    return FolderListing(tuple(pictures), tuple(skipped))


def list_pictures(paths: Iterable[Path]) -> FolderListing:
    """Files as they are named, in order, and folders through `find_pictures`.

    A named file is taken for a picture whatever its name: if it is missing or not one, it is a bad item later.
    """
    pictures: list[Path] = []
    skipped: list[Skipped] = []
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - Path's raises where a name is too long
            listing = find_pictures(path)
            pictures += listing.pictures
            skipped += listing.skipped
        else:
            pictures.append(path)
    return FolderListing(tuple(pictures), tuple(skipped))


def is_picture_head(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a picture of a kind that the server reads."""
    starts = (
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF87a",
        b"GIF89a",
        b"II*\x00",
        b"MM\x00*",
        b"II+\x00",
        b"MM\x00+",
    )
    riff = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    bmp = head[:2] == b"BM" and head[6:10] == bytes(4)
    return head.startswith(starts) or riff or bmp


def _walk(folder: Path) -> list[Path]:
    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: can't be read: {error.strerror}") from error

    found = []
    for place, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return sorted(found)


def _read_head(path: Path) -> bytes:
    # Opening a pipe without a writer would block.
    if not path.is_file():
        return b""
    try:
        with open(path, "rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError:
        return b""

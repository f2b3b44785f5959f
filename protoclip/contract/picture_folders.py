"""Pictures in folders: which files are pictures, and what is left out and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from protoclip.contract.errors import DataError
from protoclip.contract.picture_files import HEAD_BYTES, Kind, find_kind, missing_support

EXTENSIONS = frozenset({".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# Of kinds that are not read everywhere.
OPTIONAL_EXTENSIONS: dict[str, Kind] = {
    ".avif": "AVIF",
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".hif": "HEIC",
    ".jxl": "JPEG XL",
}
ALL_EXTENSIONS = EXTENSIONS | OPTIONAL_EXTENSIONS.keys()
NO_PICTURE = "not a picture in JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC or JPEG XL"


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


def find_pictures(folder: Path, *, decoded_here: bool = False) -> FolderListing:
    """Walks through `folder` and below. Hidden files are ignored, and links to folders aren't followed.

    A file is a picture by its extension, or by its first bytes where the extension is another one. Damaged
    pictures are left for whoever decodes them to report.

    Args:
        decoded_here: whether it is this process that decodes them: then those of a kind that it can't read are
            skipped, with the reason. A server has packages of its own, and reports them itself.

    Raises:
        DataError: no such folder, or it can't be read.
    """
    if not os.path.isdir(folder):  # noqa: PTH112
        raise DataError(f"{folder} is no folder")
    pictures, skipped = [], []
    for path in _walk(folder):
        reason = reason_to_skip(path.suffix.lower(), partial(_read_head, path), decoded_here=decoded_here)
        if reason is None:
            pictures.append(path)
        else:
            skipped.append(Skipped(str(path), reason))
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


def reason_to_skip(suffix: str, head: Callable[[], bytes], *, decoded_here: bool) -> str | None:
    """Why a file is left out; None for a picture, by its suffix or, of another one, by its first bytes.

    Args:
        suffix: in lower case, with its dot.
        head: reads the first `HEAD_BYTES`; called only where they decide.
        decoded_here: as of `find_pictures`.
    """
    if suffix in EXTENSIONS or (suffix in OPTIONAL_EXTENSIONS and not decoded_here):
        return None
    # What is in the file decides: telephones' programs give HEIC's name to JPEGs, too.
    kind = _kind_of(head()) or OPTIONAL_EXTENSIONS.get(suffix)
    if kind is None:
        return NO_PICTURE
    missing = missing_support(kind) if decoded_here else None
    return None if missing is None else f"this is {missing}"


def readable_kinds() -> tuple[Kind, ...]:
    """Which of the kinds that are not read everywhere are read here."""
    return tuple(kind for kind in sorted(set(OPTIONAL_EXTENSIONS.values())) if missing_support(kind) is None)


def _kind_of(head: bytes) -> Kind | None:
    """The kind of a file of any name, by its first bytes; two of them are too few, as for BMP."""
    kind = find_kind(head)
    by_chance = (kind == "BMP" and head[6:10] != bytes(4)) or (kind == "JPEG XL" and len(head) < 12)
    return None if by_chance else kind


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
            return stream.read(HEAD_BYTES)
    except OSError:
        return b""

"""Pictures in folders: which files are pictures, and what is left out and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protoclip.contract.picture_files import Kind, find_kind, missing_support

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


def reason_to_skip(suffix: str, head: Callable[[], bytes], *, decoded_here: bool) -> str | None:
    """Why a file is left out; None for a picture, by its suffix or, of another one, by its first bytes.

    Args:
        suffix: in lower case, with its dot.
        head: reads the first `picture_files.HEAD_BYTES`; called only where they decide.
        decoded_here: whether it is this process that decodes it: then one of a kind that it can't read is left
            out, with the reason. A server has packages of its own, and reports them itself.
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

"""Folders of pictures: `FOLDER/<class>/*.jpg`, also one level down in split folders (`FOLDER/train/<class>/`).

A picture's text is its class folder's name, so all pictures of a class share one text. Which files are pictures is
told as everywhere else: by suffix, or by the first bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from protoclip.contract.picture_folders import Skipped, find_pictures

CLASS_COLUMN = "class"
SPLIT_COLUMN = "split"
_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "dev", "test"}


@dataclass(frozen=True)
class ClassFolders:
    """One row per picture with the columns image (relative to the folder), text, class, and split if there is one.

    `left_out` are the files in class folders that are no pictures of a kind that is read, with the reason.
    """

    rows: tuple[dict[str, str], ...]
    left_out: tuple[Skipped, ...]


def read_class_folders(folder: Path) -> ClassFolders:
    """The pictures of all class folders; none where there are no class folders.

    The text is the class without `_` and `-`. Hidden files and folders are skipped, links to folders not followed.

    Raises:
        DataError: a folder can't be read.
    """
    inside = _folders(folder)
    if inside and all(path.name.lower() in _SPLIT_NAMES for path in inside):
        classes = [(path, {SPLIT_COLUMN: split.name}) for split in inside for path in _folders(split)]
    else:
        classes = [(path, {}) for path in inside]
    rows: list[dict[str, str]] = []
    left_out: list[Skipped] = []
    for path, split in classes:
        listing = find_pictures(path)
        text = " ".join(path.name.replace("_", " ").replace("-", " ").split())
        rows += [
            {"image": str(picture.relative_to(folder)), "text": text, CLASS_COLUMN: path.name, **split}
            for picture in listing.pictures
        ]
        left_out += listing.skipped
    return ClassFolders(tuple(rows), tuple(left_out))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))

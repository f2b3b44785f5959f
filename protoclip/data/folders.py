"""Folders of pictures: `FOLDER/<class>/*.jpg`, also one level down in split folders (`FOLDER/train/<class>/`).

A picture's text is its class folder's name, so all pictures of a class share one text.
"""

from __future__ import annotations

from pathlib import Path

CLASS_COLUMN = "class"
SPLIT_COLUMN = "split"
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "dev", "test"}


def class_folder_rows(folder: Path) -> list[dict[str, str]]:
    """One row per picture with the columns image (relative to `folder`), text, class, and split if there is one.

    The text is the class without `_` and `-`. Hidden folders are skipped; without class folders there are no rows.
    """
    inside = _folders(folder)
    if inside and all(path.name.lower() in _SPLIT_NAMES for path in inside):
        return [row | {SPLIT_COLUMN: split.name} for split in inside for row in _rows(folder, _folders(split))]
    return _rows(folder, inside)


def _rows(folder: Path, classes: list[Path]) -> list[dict[str, str]]:
    return [
        {
            "image": str(picture.relative_to(folder)),
            "text": " ".join(path.name.replace("_", " ").replace("-", " ").split()),
            CLASS_COLUMN: path.name,
        }
        for path in classes
        for picture in sorted(path.rglob("*"))
        if picture.suffix.lower() in PICTURE_SUFFIXES and not picture.name.startswith(".")
    ]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))

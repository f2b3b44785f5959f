"""Guesses what a table's columns are for, from their names and their repeated values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from protoclip.contract.errors import ConfigError, DataError

from .folders import CLASS_COLUMN
from .table import Pairs, expand_paths, read_arrow

IMAGE_NAMES = (
    "image",
    "path",
    "file_name",
    "filename",
    "filepath",
    "file_path",
    "image_path",
    "image_name",
    "img",
    "picture",
)
TEXT_NAMES = ("text", "texts", "caption", "captions", "title", "description", "comment", "alt_text")
GROUP_NAMES = ("group", "group_id", "product", "product_id", "item_id", "sku")
SPLIT_NAMES = ("split",)
TRAIN_VALUES = ("train", "training")
VALIDATION_VALUES = ("validation", "val", "valid", "dev")
CAPTION_FILES = tuple(
    f"{stem}{suffix}" for stem in ("captions", "metadata") for suffix in (".csv", ".tsv", ".jsonl")
)


def find_table(path: Path) -> Path:
    """A folder's captions file where it has one, else `path`, as an absolute path.

    Raises:
        DataError: there is no such file or folder.
        ConfigError: the folder has several captions files.
    """
    if not path.exists():
        raise DataError(f"--data {path}: no such file or folder")
    inside = [path / name for name in CAPTION_FILES if (path / name).is_file()]
    if len(inside) > 1:
        names = " and ".join(file.name for file in inside)
        raise ConfigError(f"--data {path}: holds {names}: name the one to train on")
    return (inside[0] if inside else path).resolve()


def column_names(path: Path, encoding: str = "utf-8", delimiter: str | None = None) -> list[str]:
    """The columns that all data files of `path` have, in the order of the first; DataError as `load_pairs`."""
    tables = [read_arrow(file, encoding, delimiter).column_names for file in expand_paths([str(path)])]
    return [name for name in tables[0] if all(name in others for others in tables)]


def find_column(names: Sequence[str], known: Sequence[str], setting: str) -> str:
    """The one column of `names` that is among the `known` names, ignoring case.

    Raises:
        ConfigError: none or several are; the message names the columns and the setting to use.
    """
    found = [name for name in names if name.lower() in known]
    if len(found) == 1:
        return found[0]
    example = found[0] if found else names[0]
    value = f"'data.{setting}=[\"{example}\"]'" if setting == "text_columns" else f"data.{setting}={example}"
    what = f"{' and '.join(found)} could all be" if found else f"none of {', '.join(names)} is called like"
    raise ConfigError(f"data.{setting}: {what} the column that is wanted: say which, like --set {value}")


def find_group(pairs: Pairs, image_column: str, text_columns: Sequence[str]) -> tuple[str, str] | None:
    """A column whose equal values show the same thing, with the reason; None where nothing repeats.

    A column named like a group comes first, then the one of picture and text that repeats more: two rows with
    the same text in a batch would be false negatives.
    """
    for name in (CLASS_COLUMN, *GROUP_NAMES):
        same = [column for column in pairs.columns if column.lower() == name]
        if same and (name != CLASS_COLUMN or _decides_text(pairs, same[0])):
            return same[0], "rows with the same value show the same thing"
    distinct = {}
    if len(text_columns) == 1:
        distinct[text_columns[0]] = len(set(pairs.texts))
    if all(isinstance(image, Path) for image in pairs.images):
        distinct[image_column] = len(set(pairs.images))
    if not distinct or min(distinct.values()) == len(pairs):
        return None
    column = min(distinct, key=lambda name: distinct[name])
    return column, f"{len(pairs)} rows, but only {distinct[column]} values"


def _decides_text(pairs: Pairs, column: str) -> bool:
    text_of: dict[str, tuple[str, ...]] = {}
    values = pairs.columns[column]
    return all(text_of.setdefault(value, own) == own for value, own in zip(values, pairs.texts, strict=True))

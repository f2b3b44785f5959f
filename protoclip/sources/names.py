"""What columns, files and parts of a data set are called."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from protoclip.contract.errors import ConfigError

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
    "jpg",
    "png",
    "webp",
)
TEXT_NAMES = ("text", "texts", "caption", "captions", "title", "description", "comment", "alt_text")
SPLIT_NAMES = ("split",)
TRAIN_VALUES = ("train", "training")
VALIDATION_VALUES = ("validation", "val", "valid", "dev")
_SPLITS = {*TRAIN_VALUES, *VALIDATION_VALUES, "test", "testing", "eval", "evaluation"}
_SPLIT_FILE = re.compile(rf"(?:^|[-_.])({'|'.join(sorted(_SPLITS, key=len, reverse=True))})(?:[-_.]|$)")


def find_column(names: Sequence[str], known: Sequence[str], setting: str) -> str:
    """The one column of `names` that is among the `known` names, ignoring case.

    Raises:
        ConfigError: none or several are; the message names the columns and the setting to use.
    """
    found = [name for name in names if name.lower() in known]
    if len(found) == 1:
        return found[0]
    if not found and len(names) == 1:
        raise ConfigError(
            f"data.{setting}: the only column is {names[0]!r}: if it is the names of several, say what stands "
            f"between them with data.delimiter; if not, say {_as_set(setting, names)}"
        )
    if not found:
        what = f"none of {', '.join(names)} is called like the column that is wanted"
        # Not the picture's for the texts, nor the other way round.
        free = [name for name in names if name.lower() not in (*IMAGE_NAMES, *TEXT_NAMES)] or names
        raise ConfigError(f"data.{setting}: {what}: say which, like {_as_set(setting, free[:1])}")
    ways = [_as_set(setting, [name]) for name in found]
    if setting == "text_columns":
        ways.append(_as_set(setting, found))
    shown = " and ".join(found)
    raise ConfigError(f"data.{setting}: {shown} could all be the column that is wanted: say {' or '.join(ways)}")


def split_of_folder(name: str) -> str | None:
    """The split that a folder is called like, as it is written."""
    return name if name.lower() in _SPLITS else None


def split_of_file(name: str) -> str | None:
    """The split in a file's name, such as `data/train-00000-of-00002.parquet` or `train/0000.parquet`."""
    *folders, last = name.split("/")
    found = _SPLIT_FILE.search(last.lower().rpartition(".")[0])
    if found:
        return found[1]
    return next((folder for folder in reversed(folders) if split_of_folder(folder)), None)


def _as_set(setting: str, names: Sequence[str]) -> str:
    if setting == "text_columns":
        listed = ", ".join(f'"{name}"' for name in names)
        return "--set " + shlex.quote(f"data.{setting}=[{listed}]")
    return f"--set {shlex.quote(f'data.{setting}={names[0]}')}"

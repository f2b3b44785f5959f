"""What tells the inputs of one run from those of another that have the same names: options, folder, and files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from protoclip.cli.reading import ReadingOptions
from protoclip.sources.files import DataFile, is_address
from protoclip.sources.layouts import NAMED_KINDS, files_of_pattern
from protoclip.sources.listing import find_file, list_files

from .inputs import Inputs
from .standard_input import STANDARD_INPUT


def reading_settings(arguments: list[str], reading: ReadingOptions) -> dict[str, str | None]:
    """The options that decide what is read, and the folder that relative arguments are relative to."""
    options = asdict(reading)
    names = ("image_column", "split", "encoding", "delimiter", "layout")
    paths = [Path(one) for one in arguments if one != STANDARD_INPUT and not is_address(one)]
    folder = None if all(path.is_absolute() for path in paths) else str(Path.cwd())
    return {**{name: options[name] for name in names}, "folder": folder}


def files_at(path: str) -> list[DataFile]:
    """The file of that path, those that fit a pattern, or the tables and archives below a folder; in a store, all.

    Raises:
        DataError, ConfigError: as `list_files`.
    """
    files = files_of_pattern(path)
    if files is not None:
        return files
    file = find_file(path)
    if file is not None:
        return [file]
    listing = list_files(path)
    files = [] if listing is None else list(listing.files.values())
    return [file for file in files if is_address(path) or file.suffix in NAMED_KINDS]


def facts_of_files(inputs: Inputs) -> Iterator[str]:
    """A text for each of the files behind the inputs that are pictures, which differs once a file has changed.

    Sizes and times of change of files, tables, archives and stored objects that were named or lie in a folder that
    was named, and the hash of bytes. An object that only a table names is known by its name.

    Raises:
        DataError: a store can't be read.
    """
    for file in inputs.read_files:
        yield _fact(file)
    for path in inputs.stores:
        for file in files_at(path):
            yield _fact(file)
    for name, item in zip(inputs.names, inputs.items, strict=True):
        if item is None:
            yield _fact_of_picture(name)
        elif isinstance(item, bytes):
            yield hashlib.sha256(item).hexdigest()


def _fact(file: DataFile) -> str:
    return f"{file.size} {file.changed}"


def _fact_of_picture(name: str) -> str:
    try:
        about = os.stat(name)  # noqa: PTH116 - millions
    except (OSError, ValueError):
        return "is not there"
    return f"{about.st_size} {about.st_mtime_ns}"

"""What a path holds: tables, shards, class folders, captions beside pictures. Two readings are refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from protoclip.contract.addresses import AddressError
from protoclip.contract.errors import ConfigError, DataError
from protoclip.contract.picture_folders import ALL_EXTENSIONS

from .archives import ArchivePart
from .files import DataFile, find_file, glob_files, is_address, list_files, resolved
from .json_lines import JsonLinesPart
from .names import split_of_file, split_of_folder
from .options import ReadOptions
from .parquet_tables import ParquetPart
from .part import Part
from .picture_trees import READERS, PictureTree, picture_tree
from .text_tables import DelimitedPart

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
KINDS = (*TABLES, ".tar")
_CAPTIONS = tuple(f"{stem}{suffix}" for stem in ("captions", "metadata") for suffix in TABLES)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def find_parts(options: ReadOptions) -> list[Part]:
    """The parts of all paths, in the order of the paths and of their names.

    Raises:
        DataError: a path does not exist, or holds nothing that is known here.
        ConfigError: it can be read in two ways, or a setting does not fit; says both ways.
    """
    return [part for path in options.paths for part in _parts_of(path, options)]


def _parts_of(path: str, options: ReadOptions) -> list[Part]:
    try:
        path = resolved(path)
    except AddressError as error:
        raise ConfigError(f"data.path: {error}") from None
    if any(mark in path for mark in "*?[{") and find_file(path) is None:
        files = [file for pattern in _expanded(path) for file in glob_files(pattern)]
        if not files:
            raise DataError(f"data.path: {path}: no file fits this pattern")
        return [_file_part(file, options, split_of_file(file.name)) for file in files]
    file = find_file(path)
    if file is not None:
        return [_file_part(file, options, None)]
    files_below = list_files(path)
    if files_below is None:
        raise DataError(f"data.path: {path}: no such file or folder")
    return _folder_parts(_plain(path), files_below, options)


def _expanded(pattern: str) -> list[str]:
    """`{000..002}` as the three patterns that it stands for."""
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = found[1], found[2]
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [
        rest
        for number in numbers
        for rest in _expanded(pattern[: found.start()] + number + pattern[found.end() :])
    ]


def _plain(folder: str) -> str:
    return folder.rstrip("/") if is_address(folder) else str(Path(folder))


def _file_part(file: DataFile, options: ReadOptions, split: str | None) -> Part:
    if file.suffix in (".csv", ".tsv"):
        return DelimitedPart(file, options.encoding, options.delimiter, split)
    if file.suffix == ".jsonl":
        return JsonLinesPart(file, options.encoding, split)
    if file.suffix == ".parquet":
        return ParquetPart(file, split)
    if file.suffix == ".tar":
        return ArchivePart(file, split)
    raise DataError(f"data.path: {file}: unknown kind of file: use one of {', '.join(KINDS)}")


def _folder_parts(folder: str, files: list[DataFile], options: ReadOptions) -> list[Part]:
    names = [file.address[len(folder) + 1 :] for file in files]
    by_name = dict(zip(names, files, strict=True))
    chosen = [] if _pictures_first(names, options) else _table_names(folder, names, options.layout)
    if chosen:
        return [_file_part(by_name[name], options, split_of_file(name)) for name in chosen]
    tree = picture_tree(folder, files, decoded_here=options.decoded_here)
    if not tree.pictures:
        kinds = ", ".join(KINDS)
        raise DataError(f"data.path: {folder}: holds no {kinds} file and no class folders with pictures")
    return [READERS[_picture_layout(tree, options)](tree)]


def _table_names(folder: str, names: Sequence[str], layout: str | None) -> list[str]:
    """The names of the tables or shards that a folder is made of; none where it is made of pictures."""
    if layout in READERS:
        return []
    captions = [name for name in names if name in _CAPTIONS]
    if len(captions) > 1:
        raise ConfigError(
            f"data.path: {folder}: holds {' and '.join(captions)}: name the one that is wanted, such as "
            f"{folder}/{captions[0]}"
        )
    in_splits = [n for n in names if n.count("/") == 1 and n.partition("/")[2] in _CAPTIONS]
    if not captions and in_splits and all(split_of_folder(name.partition("/")[0]) for name in in_splits):
        return in_splits
    shards = [name for name in names if name.lower().endswith(".tar")]
    tables = _own_tables(names, shards)
    found = {"webdataset": shards, "table": captions or tables}
    if layout in found:
        return found[layout]
    if shards and found["table"]:
        raise ConfigError(
            f"data.path: {folder}: holds shards ({shards[0]}) and tables ({found['table'][0]}): say which with "
            "data.layout=webdataset or data.layout=table"
        )
    return found["table"] or shards


def _pictures_first(names: Sequence[str], options: ReadOptions) -> bool:
    """Where no captions are needed, a folder with pictures is these, and tables in it are named as left out."""
    captions = any(name in _CAPTIONS for name in names)
    return not (options.texts or options.layout or captions) and any(
        name.lower().endswith(tuple(ALL_EXTENSIONS)) for name in names
    )


def _own_tables(names: Sequence[str], shards: Sequence[str]) -> list[str]:
    """Tables at the top, or Parquet files below; not what img2dataset writes about its shards and folders."""
    folders = {name.rpartition("/")[0] for name in names}
    about = {name.removesuffix(".tar") for name in shards} | folders
    tables = [n for n in names if n.lower().endswith(TABLES) and n.rpartition(".")[0] not in about]
    return [n for n in tables if "/" not in n] or [n for n in tables if n.lower().endswith(".parquet")]


def _picture_layout(tree: PictureTree, options: ReadOptions) -> str:
    if options.layout in READERS:
        return str(options.layout)
    if not options.texts:
        return "sidecars" if tree.beside else "pictures"
    classes = [name for name in tree.top_folders if not split_of_folder(name)]
    deeper = any(name.count("/") > 1 for name in tree.pictures)
    if tree.beside:
        numbered = all(name.isdigit() for name in classes)
        if not numbered and len(classes) > 1:
            raise ConfigError(
                f"data.path: {tree.folder}: captions lie beside the pictures, and folder names such as "
                f"{classes[0]!r} could be their captions too: say data.layout=sidecars or "
                "data.layout=class_folders"
            )
        return "sidecars"
    if classes or (tree.top_folders and deeper):
        return "class_folders"
    if tree.pictures:
        raise DataError(
            f"data.path: {tree.folder}: {len(tree.pictures)} pictures without captions: put a .txt of the same "
            "name beside each, a captions.csv with the columns image and text into the folder, or sort them into "
            "a folder for each class"
        )
    return "pictures"

"""What a path holds: tables, shards, class folders, captions beside pictures. Two readings are refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from protoclip.contract.addresses import AddressError
from protoclip.contract.errors import ConfigError, DataError
from protoclip.contract.picture_folders import ALL_EXTENSIONS, Skipped

from .archives import ArchivePart
from .files import DataFile, find_file, glob_files, is_address, is_folder, list_files, resolved
from .json_lines import JsonLinesPart
from .names import split_of_file, split_of_folder
from .options import ReadOptions
from .parquet_tables import ParquetPart
from .part import Part
from .picture_trees import READERS, PictureTree, picture_tree
from .text_tables import DelimitedPart
from .unnamed import expect_pictures

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
KINDS = (*TABLES, ".tar")
_SHEET = "save the sheet as .csv in UTF-8"
_WAYS_OUT = {
    ".txt": "call it .csv, or .tsv where tabs part its fields and nothing is quoted",
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), _SHEET),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".7z"), "unpack it first"),
    **dict.fromkeys((".tgz", ".txz"), "unpack it, and name the .tar or its folder"),
    **dict.fromkeys(
        (".arrow", ".feather", ".orc", ".avro", ".db", ".sqlite", ".pkl"), "save it as .parquet or .csv"
    ),
}
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
    files = files_of_pattern(path)
    if files is not None:
        return [_file_part(file, options, split_of_file(file.name)) for file in files]
    file = find_file(path)
    if file is not None:
        return [_file_part(file, options, None)]
    folder = _plain(path)
    files_below = list_files(folder)
    if files_below is None:
        raise DataError(f"data.path: {path}: no such file or folder")
    return _folder_parts(folder, files_below, options)


def files_of_pattern(path: str) -> list[DataFile] | None:
    """The files that fit a pattern such as `shards/{000..012}.tar`; None where `path` is none, or is there itself.

    Raises:
        DataError: none fits.
    """
    if not any(mark in path for mark in "*?[{") or find_file(path) is not None:
        return None
    if is_folder(path):
        return None
    files = [file for pattern in _expanded(path) for file in glob_files(pattern)]
    if not files:
        raise DataError(f"data.path: {path}: no file fits this pattern")
    return files


def folder_of_pictures(options: ReadOptions) -> PictureTree | None:
    """The one path's files, where it is a folder that is read as its pictures alone, without texts and splits.

    None where it is read from tables or shards, or is no folder; errors as `find_parts`.
    """
    folder = _plain(resolved(options.paths[0]))
    if options.split is not None or options.layout not in (None, "pictures") or find_file(folder) is not None:
        return None
    files = list_files(folder)
    if files is None or _tables_of(folder, _names_below(folder, files), options):
        return None
    return _tree(folder, files, options)


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
    raise DataError(f"data.path: {file}: unknown kind of file: {_way_out(file)}")


def _way_out(file: DataFile) -> str:
    if file.suffix in ALL_EXTENSIONS:
        return "a picture alone: name its folder, or a table that names it"
    return _WAYS_OUT.get(file.suffix, f"use one of {', '.join(KINDS)}")


def _folder_parts(folder: str, files: list[DataFile], options: ReadOptions) -> list[Part]:
    names = _names_below(folder, files)
    by_name = dict(zip(names, files, strict=True))
    chosen = _tables_of(folder, names, options)
    if not chosen:
        tree = _tree(folder, files, options)
        return [READERS[_picture_layout(tree, options)](tree, options.texts or options.split is not None)]
    parts = [_file_part(by_name[name], options, split_of_file(name)) for name in chosen]
    expect_pictures(parts, folder, files)
    unread = [name for name in _own_tables(names, []) if name not in chosen]
    if chosen[0].lower().endswith(TABLES):
        parts[0].left_out += [Skipped(f"{folder}/{name}", f"not read: {chosen[0]} is") for name in unread]
    return parts


def _names_below(folder: str, files: Sequence[DataFile]) -> list[str]:
    return [file.address[len(folder.rstrip("/")) + 1 :] for file in files]


def _tables_of(folder: str, names: Sequence[str], options: ReadOptions) -> list[str]:
    return [] if _pictures_first(names, options) else _table_names(folder, names, options.layout)


def _tree(folder: str, files: list[DataFile], options: ReadOptions) -> PictureTree:
    tree = picture_tree(folder, files, decoded_here=options.decoded_here)
    if not tree.pictures:
        kinds = ", ".join(KINDS)
        if not options.texts:
            raise DataError(f"data.path: {folder}: holds no picture, and none of {kinds}")
        raise DataError(f"data.path: {folder}: holds no {kinds} file and no class folders with pictures")
    return tree


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

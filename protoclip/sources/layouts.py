"""What a path holds: tables, shards, class folders, captions beside pictures. Two readings are refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from protoclip.contract.addresses import AddressError
from protoclip.contract.errors import ConfigError, DataError

from .archives import ArchivePart
from .files import DataFile, is_address, resolved
from .folder_files import FolderFiles, way_out
from .json_lines import JsonLinesPart
from .listing import Listing, find_file, glob_files, is_folder, list_files
from .names import split_of_file, split_of_folder
from .options import ReadOptions
from .parquet_tables import ParquetPart
from .part import Part
from .picture_trees import READERS, PictureTree, TreePart, picture_tree
from .split_folders import with_splits
from .text_tables import DelimitedPart
from .unnamed import expect_pictures

KINDS = (".csv", ".tsv", ".jsonl", ".parquet", ".tar")
# In a folder a .json is what lies beside a picture, or about the data.
JSON_TABLES = (".jsonl", ".ndjson", ".json")
NAMED_KINDS = (*KINDS, *JSON_TABLES)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_PATTERNS = 1_000_000


def find_parts(options: ReadOptions) -> list[Part]:
    """The parts of all paths, in the order of the paths and of their names.

    Raises:
        DataError: a path does not exist, or holds nothing that is known here.
        ConfigError: it can be read in two ways, or a setting does not fit; says both ways.
    """
    parts: list[Part] = []
    for source, path in enumerate(options.paths):
        for part in _parts_of(path, options):
            part.source = source
            parts.append(part)
    shards = [part for part in parts if isinstance(part, ArchivePart)]
    for shard in shards:
        shard.shards = shards
    return parts


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
    listing = list_files(folder)
    if listing is None:
        missing = "file, folder or bucket" if is_address(path) else "file or folder"
        raise DataError(f"data.path: {path}: no such {missing}")
    return _folder_parts(folder, listing, options)


def files_of_pattern(path: str) -> list[DataFile] | None:
    """The files that fit a pattern such as `shards/{000..012}.tar`; None where `path` is none, or is there itself.

    Raises:
        DataError: none fits.
        ConfigError: a range goes backwards.
    """
    if not any(mark in path for mark in "*?[{") or find_file(path) is not None or is_folder(path):
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
    listing = list_files(folder)
    if listing is None:
        return None
    files = FolderFiles(folder, tuple(listing.files))
    return None if _tables_of(files, options) else _tree(files, listing, options)


def _plain(folder: str) -> str:
    return folder.rstrip("/") if is_address(folder) else str(Path(folder))


def _expanded(pattern: str) -> list[str]:
    """`{000..002}` as the three names that it stands for."""
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = found[1], found[2]
    if not 0 <= int(last) - int(first) < _MOST_PATTERNS:
        raise ConfigError(f"data.path: {pattern}: {found[0]} goes from the smaller number to the larger one")
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [
        rest
        for number in numbers
        for rest in _expanded(pattern[: found.start()] + number + pattern[found.end() :])
    ]


def _file_part(file: DataFile, options: ReadOptions, split: str | None) -> Part:
    if file.suffix in (".csv", ".tsv"):
        return DelimitedPart(file, options.encoding, options.delimiter, split)
    if file.suffix in JSON_TABLES:
        return JsonLinesPart(file, options.encoding, split)
    if file.suffix == ".parquet":
        return ParquetPart(file, split)
    if file.suffix == ".tar":
        return ArchivePart(file, split, cache_dir=options.cache_dir)
    hint = way_out(file.name) or f"use one of {', '.join(KINDS)}"
    raise DataError(f"data.path: {file}: unknown kind of file: {hint}")


def _folder_parts(folder: str, listing: Listing, options: ReadOptions) -> list[Part]:
    files = FolderFiles(folder, tuple(listing.files))
    chosen = _tables_of(files, options)
    if not chosen:
        tree = _tree(files, listing, options)
        return [TreePart(tree, _picture_layout(tree, options), options.cache_dir)]
    parts = [_file_part(listing.files[name], options, split_of_file(name)) for name in chosen]
    expect_pictures(parts, folder, list(listing.files.values()))
    parts[0].left_out.extend((*files.unread(chosen), *listing.left_out))
    wanted = options.texts or options.split is not None
    if wanted and len(parts) == 1 and "/" not in chosen[0] and not parts[0].archive:
        return [with_splits(parts[0], files.names, options.image_column)]
    return parts


def _tables_of(files: FolderFiles, options: ReadOptions) -> list[str]:
    return [] if options.layout in READERS or files.pictures_first(options) else files.tables(options.layout)


def _tree(files: FolderFiles, listing: Listing, options: ReadOptions) -> PictureTree:
    kept = {name: file for name, file in listing.files.items() if name not in files.about_shards}
    tree = picture_tree(
        files.folder,
        Listing(kept, listing.left_out),
        decoded_here=options.decoded_here,
        with_splits=options.texts or options.split is not None,
    )
    if not tree.pictures:
        raise DataError(f"data.path: {files.folder}: {files.nothing_known(KINDS, texts=options.texts)}")
    return tree


def _picture_layout(tree: PictureTree, options: ReadOptions) -> str:
    if options.layout in READERS:
        return str(options.layout)
    if not options.texts:
        return "sidecars" if tree.beside else "pictures"
    classes = _classes(tree)
    if tree.beside:
        numbered = all(name.isdigit() for name in classes)
        if not numbered and len(classes) > 1:
            raise ConfigError(
                f"data.path: {tree.folder}: captions lie beside the pictures, and folder names such as "
                f"{classes[0]!r} could be their captions too: say data.layout=sidecars or "
                "data.layout=class_folders"
            )
        return "sidecars"
    if classes:
        return "class_folders"
    raise DataError(
        f"data.path: {tree.folder}: {len(tree.pictures)} pictures without captions: put a .txt of the same "
        "name beside each, a captions.csv with the columns image and text into the folder, or sort them into "
        "a folder for each class"
    )


def _classes(tree: PictureTree) -> Sequence[str]:
    """The names of the folders that could be classes: those at the top, or those inside of splits."""
    classes = [name for name in tree.top_folders if not split_of_folder(name)]
    if classes:
        return classes
    return tuple(dict.fromkeys(name.split("/")[1] for name in tree.pictures if name.count("/") > 1))

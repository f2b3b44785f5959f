"""Folders of pictures: class folders, captions beside the pictures, or pictures alone.

Which files are pictures is told as everywhere: by suffix, or by the first bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import ALL_EXTENSIONS, Skipped, reason_to_skip

from .captions_beside import BESIDE, MAX_BYTES, BadCaption, caption_columns
from .files import DataFile, is_address, name_to_text, read_head
from .listing import Listing
from .names import split_of_folder
from .part import CHUNK_ROWS, CLASS, IMAGE, SPLIT, TEXT, Chunk
from .row_index import FoundRows, kept_rows
from .sidecar_names import Row, column_arrays, split_key

_REQUESTS = 16
IN_NO_SPLIT = "in no split's folder"


@dataclass(frozen=True)
class PictureTree:
    """The files below a folder: pictures, captions by what they stand beside, and others; names from there on."""

    folder: str
    pictures: tuple[str, ...]
    beside: dict[str, dict[str, DataFile]]
    others: tuple[Skipped, ...]
    files: tuple[DataFile, ...]
    with_splits: bool = True

    @property
    def top_folders(self) -> tuple[str, ...]:
        """The names of the folders that pictures lie in, one level down."""
        return tuple(dict.fromkeys(name.partition("/")[0] for name in self.pictures if "/" in name))

    def split_of(self, name: str) -> str | None:
        """The split whose folder a picture lies in, where all top folders are called like splits."""
        return name.partition("/")[0] if self.has_splits and "/" in name else None

    @cached_property
    def has_splits(self) -> bool:
        """Whether all top folders are called like splits, and splits are wanted."""
        return (
            self.with_splits and bool(self.top_folders) and all(split_of_folder(name) for name in self.top_folders)
        )


def picture_tree(
    folder: str, listing: Listing, *, decoded_here: bool = True, with_splits: bool = True
) -> PictureTree:
    """Sorts the files below `folder` into pictures, captions beside them, and others.

    Args:
        decoded_here: whether pictures of a kind that this process can't read are others, with the reason.
        with_splits: whether top folders that are called like splits are any.
    """
    keys = {split_key(name)[0] for name, file in listing.files.items() if file.suffix in ALL_EXTENSIONS}
    pictures, others = [], list(listing.left_out)
    beside: dict[str, dict[str, DataFile]] = {}
    for name, file in listing.files.items():
        key, extension = split_key(name)
        if extension in BESIDE and key in keys:
            beside.setdefault(key, {})[extension] = file
            continue
        reason = reason_to_skip(file.suffix, partial(read_head, file), decoded_here=decoded_here)
        if reason is None:
            pictures.append(name)
        else:
            others.append(Skipped(file.address, reason))
    files = tuple(listing.files.values())
    return PictureTree(folder, tuple(pictures), beside, tuple(others), files, with_splits)


Find = Callable[[PictureTree], FoundRows]


@dataclass
class TreePart:
    """The pictures of a folder, read as `layout` says when its rows are asked for."""

    tree: PictureTree
    layout: str
    cache_dir: Path | None = None
    archive: bool = False
    split: str | None = None
    left_out: list[Skipped] = field(default_factory=list)
    pictures: tuple[DataFile, ...] = ()
    source: int = 0

    def __post_init__(self) -> None:
        self.name = self.folder = self.tree.folder

    @property
    def num_bytes(self) -> int:
        """As `Part.num_bytes`: of the captions."""
        return sum(file.size for own in self.tree.beside.values() for file in own.values())

    @property
    def files(self) -> list[DataFile]:
        """As `Part.files`."""
        return list(self.tree.files)

    def schema(self) -> Any:
        """As `Part.schema`; reads all captions."""
        return self._found.table.schema

    def chunks(self, columns: list[str]) -> Iterator[Chunk]:
        """As `Part.chunks`."""
        for batch in self._found.table.select(columns).to_batches(CHUNK_ROWS):
            yield Chunk(batch, by_picture=True)

    def splits(self) -> set[str]:
        """The splits that its folders are called like."""
        return {split for name in self.tree.pictures if (split := self.tree.split_of(name)) is not None}

    @cached_property
    def _found(self) -> FoundRows:
        find = partial(READERS[self.layout], self.tree)
        kept = self.tree.files if self.layout == "sidecars" else ()
        found = kept_rows(f"{self.layout} {self.tree.folder}", kept, self.cache_dir, find)
        self.left_out.extend((*self.tree.others, *found.left_out))
        return found


def class_folders(tree: PictureTree) -> FoundRows:
    """One row a picture: `image`, `text` (the class without `_` and `-`), `class`; `split` under split folders.

    Pictures that lie in no class folder are left out, and those in one whose name is no text.
    """
    rows: list[Row] = []
    left_out = []
    for name in tree.pictures:
        split = tree.split_of(name)
        folders = name.split("/")[:-1][split is not None :]
        if not folders or name_to_text(folders[0]) != folders[0]:
            reason = "in a class folder whose name is not UTF-8" if folders else "in no class folder"
            left_out.append(Skipped(f"{tree.folder}/{name}", reason))
            continue
        text = " ".join(folders[0].replace("_", " ").replace("-", " ").split())
        rows.append(_row(tree, name) | {TEXT: text, CLASS: folders[0]})
    return _found(rows, left_out)


def captions_beside(tree: PictureTree) -> FoundRows:
    """One row a picture with the columns of the files beside it, and `split` under split folders."""
    # One request after the other would wait for a store most of the time.
    with ThreadPoolExecutor(_REQUESTS if is_address(tree.folder) else 1) as pool:
        outcomes = list(pool.map(partial(_beside, tree), tree.pictures))
    rows = [outcome for outcome in outcomes if not isinstance(outcome, Skipped)]
    return _found(rows, [outcome for outcome in outcomes if isinstance(outcome, Skipped)])


def _beside(tree: PictureTree, name: str) -> Row | Skipped:
    if tree.has_splits and tree.split_of(name) is None:
        return Skipped(f"{tree.folder}/{name}", IN_NO_SPLIT)
    beside = tree.beside.get(split_key(name)[0], {})
    try:
        return caption_columns({kind: _read(kind, file) for kind, file in beside.items()}) | _row(tree, name)
    except BadCaption as error:
        return Skipped(f"{tree.folder}/{name}", str(error))


def pictures_alone(tree: PictureTree) -> FoundRows:
    """One row a picture with its name, and `split` under split folders."""
    stray = [name for name in tree.pictures if tree.has_splits and tree.split_of(name) is None]
    rows = [_row(tree, name) for name in tree.pictures if name not in stray]
    return _found(rows, [Skipped(f"{tree.folder}/{name}", IN_NO_SPLIT) for name in stray])


READERS: dict[str, Find] = {
    "class_folders": class_folders,
    "sidecars": captions_beside,
    "pictures": pictures_alone,
}


def _row(tree: PictureTree, name: str) -> Row:
    row: Row = {IMAGE: name_to_text(name)}
    split = tree.split_of(name)
    return row if split is None else row | {SPLIT: split}


def _read(kind: str, file: DataFile) -> bytes:
    try:
        with file.open() as stream:
            return stream.read(MAX_BYTES + 1)
    except (DataError, OSError) as error:
        raise BadCaption(f"its .{kind} can't be read") from error


def _found(rows: list[Row], left_out: list[Skipped]) -> FoundRows:
    import pyarrow as pa

    nothing = {name: pa.array([], pa.string()) for name in (IMAGE, TEXT)}
    return FoundRows(pa.table(column_arrays(rows) or nothing), tuple(left_out))

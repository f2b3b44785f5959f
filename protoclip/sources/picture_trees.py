"""Folders of pictures: class folders, captions beside the pictures, or pictures alone.

Which files are pictures is told as everywhere: by suffix, or by the first bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from protoclip.contract.picture_folders import ALL_EXTENSIONS, Skipped, reason_to_skip

from .archives import column_arrays, split_key
from .captions_beside import BESIDE, MAX_BYTES, BadCaption, caption_columns
from .files import DataFile, name_to_text, read_head
from .names import split_of_folder
from .part import CLASS, IMAGE, SPLIT, TEXT, RowsPart


@dataclass(frozen=True)
class PictureTree:
    """The files below a folder: pictures, captions by what they stand beside, and others; names from there on."""

    folder: str
    pictures: tuple[str, ...]
    beside: dict[str, dict[str, DataFile]]
    others: tuple[Skipped, ...]
    files: tuple[DataFile, ...]

    @property
    def top_folders(self) -> tuple[str, ...]:
        """The names of the folders that pictures lie in, one level down."""
        return tuple(dict.fromkeys(name.partition("/")[0] for name in self.pictures if "/" in name))

    @property
    def are_in_splits(self) -> bool:
        """Whether these folders are called like splits, all of them."""
        return bool(self.top_folders) and all(split_of_folder(name) for name in self.top_folders)


def picture_tree(folder: str, files: list[DataFile], *, decoded_here: bool = True) -> PictureTree:
    """Sorts the files below `folder` into pictures, captions beside them, and others.

    Args:
        decoded_here: whether pictures of a kind that this process can't read are others, with the reason.
    """
    start = len(folder.rstrip("/")) + 1
    names = {file.address[start:]: file for file in files}
    keys = {split_key(name)[0] for name, file in names.items() if file.suffix in ALL_EXTENSIONS}
    pictures, others = [], []
    beside: dict[str, dict[str, DataFile]] = {}
    for name, file in names.items():
        key, extension = split_key(name)
        if extension in BESIDE and key in keys:
            beside.setdefault(key, {})[extension] = file
            continue
        reason = reason_to_skip(file.suffix, partial(read_head, file), decoded_here=decoded_here)
        if reason is None:
            pictures.append(name)
        else:
            others.append(Skipped(file.address, reason))
    return PictureTree(
        folder, tuple(sorted(pictures, key=lambda n: n.split("/"))), beside, tuple(others), tuple(files)
    )


def class_folders(tree: PictureTree, with_splits: bool = True) -> RowsPart:
    """One row a picture: `image`, `text` (the class without `_` and `-`), `class`, and `split` under split
    folders.

    Pictures that lie in no class folder are left out.
    """
    splits = with_splits and tree.are_in_splits
    rows, left_out = [], list(tree.others)
    for name in map(name_to_text, tree.pictures):
        folders = name.split("/")[:-1]
        split = {SPLIT: folders.pop(0)} if splits and folders else {}
        if not folders:
            left_out.append(Skipped(f"{tree.folder}/{name}", "in no class folder"))
            continue
        text = " ".join(folders[0].replace("_", " ").replace("-", " ").split())
        rows.append({IMAGE: name, TEXT: text, CLASS: folders[0], **split})
    return _part(tree, rows, left_out)


def captions_beside(tree: PictureTree, with_splits: bool = True) -> RowsPart:
    """One row a picture with the columns of the files beside it, and `split` under split folders."""
    splits = with_splits and tree.are_in_splits
    rows, left_out = [], list(tree.others)
    for name in tree.pictures:
        try:
            columns = caption_columns({kind: _read(file) for kind, file in _beside(tree, name).items()})
        except BadCaption as error:
            left_out.append(Skipped(f"{tree.folder}/{name}", str(error)))
            continue
        rows.append({IMAGE: name_to_text(name), **columns, **_split_of(name, splits)})
    return _part(tree, rows, left_out)


def pictures_alone(tree: PictureTree, with_splits: bool = True) -> RowsPart:
    """One row a picture with its name, and `split` under split folders."""
    splits = with_splits and tree.are_in_splits
    rows = [{IMAGE: name_to_text(name), **_split_of(name, splits)} for name in tree.pictures]
    return _part(tree, rows, list(tree.others))


READERS: dict[str, Callable[[PictureTree, bool], RowsPart]] = {
    "class_folders": class_folders,
    "sidecars": captions_beside,
    "pictures": pictures_alone,
}


def _split_of(name: str, splits: bool) -> dict[str, str | None]:
    return {SPLIT: name.partition("/")[0]} if splits and "/" in name else {}


def _beside(tree: PictureTree, name: str) -> dict[str, DataFile]:
    return tree.beside.get(split_key(name)[0], {})


def _read(file: DataFile) -> bytes:
    with file.open() as stream:
        return stream.read(MAX_BYTES + 1)


def _part(tree: PictureTree, rows: list[Any], left_out: list[Skipped]) -> RowsPart:
    import pyarrow as pa

    arrays = column_arrays(rows) or {IMAGE: pa.array([], pa.string())}
    return RowsPart(tree.folder, tree.folder, pa.table(arrays), list(tree.files), left_out=left_out)

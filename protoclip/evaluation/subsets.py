"""The parts of the data that are measured separately: values of the split column, and unions of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError
from protoclip.data.groups import group_numbers
from protoclip.sources import Pairs


@dataclass(frozen=True)
class Labels:
    """The distinct texts of a subset, and which one belongs to each of its `N` pictures.

    Attributes:
        texts: M label texts, none twice, in the order in which they first occur.
        owners: `[N]`, index in `texts`.
        groups: `[N]`, number of the picture's group.
    """

    texts: tuple[str, ...]
    owners: NDArray[np.int64]
    groups: NDArray[np.int64]


Captions = Literal["label", "all"]
"""Which texts retrieval is among: a label text for each group, or all texts of all pictures (COCO's protocol)."""


@dataclass(frozen=True)
class CaptionTexts:
    """The texts that retrieval is among, and which of them belong to which picture.

    Attributes:
        texts: M, none twice.
        pictures, numbers: [P] each: picture `pictures[p]` owns text `numbers[p]`; each picture owns one or more.
    """

    texts: tuple[str, ...]
    pictures: NDArray[np.int64]
    numbers: NDArray[np.int64]


def all_captions(pairs: Pairs) -> CaptionTexts:
    """Every text of every picture: a text that several pictures have is one, and right for each of them."""
    place = {text: number for number, text in enumerate(dict.fromkeys(t for texts in pairs.texts for t in texts))}
    owned = [(row, place[text]) for row, texts in enumerate(pairs.texts) for text in dict.fromkeys(texts)]
    pictures, numbers = np.array(owned, dtype=np.int64).reshape(-1, 2).T
    return CaptionTexts(tuple(place), pictures, numbers)


def split_subsets(
    pairs: Pairs, split_column: str, train: Pairs, train_split: str, unions: Mapping[str, Sequence[str]]
) -> dict[str, Pairs]:
    """The named unions in their order; without any, one subset per value, the training split first.

    The training split's subset is `train` itself, not a copy. Rows without a split value are in no subset.

    Raises:
        ConfigError: a union of values that the column does not hold, or of none, or one that mixes the
            training split with others.
        DataError: there is no such column.
    """
    splits = pairs.column(split_column)
    values = [value for value in dict.fromkeys(splits.tolist()) if value not in ("", train_split)]
    held = [train_split, *map(str, values)]
    subsets = {}
    for name, parts in (unions or {value: [value] for value in held}).items():
        if not parts or not set(parts) <= set(held):
            raise ConfigError(
                f"evaluation.cells.{name}: {list(parts)} must name values of {split_column}: {', '.join(held)}"
            )
        if train_split in parts and len(parts) > 1:
            raise ConfigError(f"evaluation.cells.{name}: {train_split!r} was trained on: measure it apart")
        subsets[name] = train if train_split in parts else pairs.select(np.isin(splits.astype(str), list(parts)))
    return subsets


def label_texts(pairs: Pairs, group_column: str | None) -> Labels:
    """The label text of every group: the first text of the group's first row.

    Groups with the same label text share one entry, since no model can tell them apart by it.

    Args:
        pairs: N rows.
        group_column: rows with the same value show the same thing; None: rows with the same label text.

    Raises:
        DataError: there is no such column.
    """
    own = [texts[0] for texts in pairs.texts]
    keys: list[Any] = own if group_column is None else group_numbers(pairs.column(group_column)).tolist()
    text_of_group: dict[Any, str] = {}
    for key, text in zip(keys, own, strict=True):
        text_of_group.setdefault(key, text)
    texts = tuple(dict.fromkeys(text_of_group.values()))
    place = {text: number for number, text in enumerate(texts)}
    number = {key: group for group, key in enumerate(text_of_group)}
    return Labels(
        texts=texts,
        owners=np.array([place[text_of_group[key]] for key in keys], dtype=np.int64),
        groups=np.array([number[key] for key in keys], dtype=np.int64),
    )

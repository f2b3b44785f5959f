"""Guesses which column says that rows show the same thing, from its name and its repeated values. `N` pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from protoclip.sources import Pairs
from protoclip.sources.columns import TextColumn
from protoclip.sources.part import CLASS
from protoclip.sources.stored import ImageColumn

GROUP_NAMES = ("group", "group_id", "product", "product_id", "item_id", "sku")


def named_group(names: Sequence[str]) -> str | None:
    """The column that is called like a group, if any."""
    return next((name for known in GROUP_NAMES for name in names if name.lower() == known), None)


def find_group(pairs: Pairs, image_column: str, text_columns: Sequence[str]) -> tuple[str, str] | None:
    """A column whose equal values show the same thing, with the reason; None where nothing repeats.

    A column named like a group comes first, then the one of picture and text that repeats more: two rows with
    the same text in a batch would be false negatives.
    """
    same = "rows with the same value show the same thing"
    if CLASS in pairs.columns and _decides_text(pairs, CLASS):
        return CLASS, same
    named = named_group(list(pairs.columns))
    if named is not None:
        return named, same
    distinct = {}
    if len(text_columns) == 1:
        distinct[text_columns[0]] = _num_distinct(pairs.texts)
    if isinstance(pairs.images, ImageColumn) and pairs.images.are_files and image_column in pairs.columns:
        distinct[image_column] = _num_distinct(pairs.images)
    if not distinct or min(distinct.values()) == len(pairs):
        return None
    column = min(distinct, key=lambda name: distinct[name])
    return column, f"{len(pairs)} rows, but only {distinct[column]} values"


def _num_distinct(values: Iterable[Any]) -> int:
    if isinstance(values, TextColumn):
        return values.num_distinct
    # Hashes take 8 bytes a row; the values of millions of rows would not fit.
    return len(np.unique(np.fromiter(map(hash, values), dtype=np.int64)))


def _decides_text(pairs: Pairs, column: str) -> bool:
    text_of: dict[str, tuple[str, ...]] = {}
    values = pairs.columns[column]
    return all(text_of.setdefault(value, own) == own for value, own in zip(values, pairs.texts, strict=True))

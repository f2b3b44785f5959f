"""Makes the tokens of all texts, by several processes where there are many.

`U` distinct texts, `T` the context length. A text is cleaned and tokenized in about 60 µs of one core.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from protoclip.contract.errors import DataError
from protoclip.contract.text import TextError, Tokenizer

from .flat_texts import FlatTexts, strings
from .token_table import TokenTable, bad_text

T = TypeVar("T")
Ragged = tuple[NDArray[Any], NDArray[np.int64]]
"""Tokens of texts, one after the other without padding, and how many each text has."""

CHUNK = 4096


def token_table(flat: FlatTexts, tokenizer: Tokenizer) -> TokenTable:
    """The tokens of all texts in memory, made by this process.

    Raises:
        DataError: a text that the tokenizer can't take; names its row.
    """
    distinct, rows = flat.distinct()
    chunks = list(checked(encoded(distinct, tokenizer, num_workers=0), flat, tokenizer))
    ids = np.concatenate([np.zeros(0, id_type(tokenizer)), *(own for own, _ in chunks)])
    lengths = np.concatenate([np.zeros(1, np.int64), *(counts for _, counts in chunks)])
    context_length, padding = frame(tokenizer)
    return TokenTable(ids, np.cumsum(lengths), rows, flat.first, context_length, padding)


def encoded(distinct: Any, tokenizer: Tokenizer, num_workers: int) -> Iterable[Ragged | None]:
    """The tokens of `CHUNK` texts after the other, in their order; None where one of them is bad."""
    return DataLoader(
        _Chunks(distinct, tokenizer),
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_unchanged,
        # Without one of its own it would draw from torch's global generator and change what the run draws.
        generator=torch.Generator(),
    )


def checked(chunks: Iterable[Ragged | None], flat: FlatTexts, tokenizer: Tokenizer) -> Iterator[Ragged]:
    """The chunks of `encoded`.

    Raises:
        DataError: a chunk has a bad text; names the first row that has it.
    """
    for number, chunk in enumerate(chunks):
        if chunk is None:
            raise _error_of(flat, number, tokenizer)
        yield chunk


def id_type(tokenizer: Tokenizer) -> type[np.uint16] | type[np.int32]:
    """The smaller of the two types that holds all ids."""
    return np.uint16 if tokenizer.largest_id < 2**16 else np.int32


def frame(tokenizer: Tokenizer) -> tuple[int, int]:
    """T, and the id that stands behind a short text."""
    tokens = tokenizer.encode([""])[0]
    return len(tokens), int(tokens[-1])


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Chunks(Dataset[Ragged | None]):
    def __init__(self, distinct: Any, tokenizer: Tokenizer) -> None:
        self._distinct, self._tokenizer = distinct, tokenizer
        self._type, (_, self._padding) = id_type(tokenizer), frame(tokenizer)

    def __len__(self) -> int:
        return -(-len(self._distinct) // CHUNK)

    def __getitem__(self, number: int) -> Ragged | None:
        try:
            tokens = self._tokenizer.encode(strings(self._distinct.slice(number * CHUNK, CHUNK)))
        except TextError:
            return None
        is_token = tokens != self._padding
        last = tokens.shape[1] - is_token[:, ::-1].argmax(axis=1)
        lengths = np.where(is_token.any(axis=1), last, 0)
        own = np.arange(tokens.shape[1]) < lengths[:, np.newaxis]
        return tokens[own].astype(self._type), lengths


def _unchanged(chunk: T) -> T:
    return chunk


def _error_of(flat: FlatTexts, number: int, tokenizer: Tokenizer) -> DataError:
    distinct, rows = flat.distinct()
    first_places = np.full(len(distinct), len(rows))
    np.minimum.at(first_places, rows, np.arange(len(rows)))
    pairs = np.searchsorted(flat.first, first_places[number * CHUNK :][:CHUNK], side="right") - 1
    return bad_text(zip(pairs.tolist(), strings(distinct.slice(number * CHUNK, CHUNK)), strict=False), tokenizer)

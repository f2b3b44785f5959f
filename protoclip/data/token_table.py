"""Tokens of the texts of all pairs. `N` pairs, `M` texts, `U` distinct texts, `T` the context length."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import DataError
from protoclip.contract.text import TextError, Tokenizer

FACTS_FILE = "tokens.json"
_CHUNK = 2**20


class Tokens(Protocol):
    """What texts become for the text tower."""

    def chosen(self, indices: NDArray[np.int64], draws: NDArray[np.float64]) -> NDArray[np.int32]:
        """The tokens [B, T] of one text of each of the pairs `indices` [B].

        Args:
            draws: [B], uniform in [0, 1): which of the pair's texts.

        Raises:
            DataError: a text that the tokenizer can't take.
        """

    def distinct_ids(self) -> NDArray[np.int64]:
        """The ids that occur in any text, ascending."""


@dataclass(frozen=True)
class TokenTable:
    """Tokens of all texts, each distinct text once, without the padding.

    Attributes:
        ids: tokens of all distinct texts, one text after the other.
        starts: [U + 1], where each distinct text begins in `ids`; the last is its length.
        rows: [M], the distinct text that each text is.
        first: [N + 1], where the texts of each pair begin in `rows`; the last is M.
        padding: the id that fills a text up to T.
        folder: where `ids`, `starts`, `rows` and `first` are mapped from; None where they are in memory.
    """

    ids: NDArray[Any]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    first: NDArray[np.int64]
    context_length: int
    padding: int
    folder: Path | None = field(default=None, compare=False)

    @classmethod
    def mapped(cls, folder: Path) -> TokenTable:
        """The table that `write_table` wrote, mapped: processes that map it share its memory.

        Raises:
            OSError: there is none, or a file can't be read.
            ValueError: a file is damaged.
        """
        facts = json.loads((folder / FACTS_FILE).read_bytes())
        arrays: dict[str, NDArray[Any]] = {}
        for name, (kind, length) in facts["arrays"].items():
            path = folder / name
            if path.stat().st_size != np.dtype(kind).itemsize * length:
                raise ValueError(f"{path}: is not of the size that it was written with")
            # An empty file can't be mapped.
            arrays[name] = np.memmap(path, kind, "r").view(np.ndarray) if length else np.zeros(0, kind)
        return cls(**arrays, context_length=facts["context_length"], padding=facts["padding"], folder=folder)

    def __reduce__(self) -> tuple[Any, ...]:
        """A process that gets a mapped table maps the files too, instead of getting a copy."""
        if self.folder is not None:
            return TokenTable.mapped, (self.folder,)
        return TokenTable, (self.ids, self.starts, self.rows, self.first, self.context_length, self.padding)

    def chosen(self, indices: NDArray[np.int64], draws: NDArray[np.float64]) -> NDArray[np.int32]:
        """See `Tokens`; all texts are known to be good here."""
        first = self.first[indices]
        texts = self.rows[first + np.floor(draws * (self.first[indices + 1] - first)).astype(np.int64)]
        starts = self.starts[texts]
        places = np.arange(self.context_length)
        is_own = places < (self.starts[texts + 1] - starts)[:, np.newaxis]
        tokens = np.full((len(indices), self.context_length), self.padding, dtype=np.int32)
        tokens[is_own] = self.ids[(starts[:, np.newaxis] + places)[is_own]]
        return tokens

    def distinct_ids(self) -> NDArray[np.int64]:
        """See `Tokens`."""
        found = {self.padding} if (np.diff(self.starts) < self.context_length).any() else set()
        for start in range(0, len(self.ids), _CHUNK):
            found.update(np.unique(self.ids[start : start + _CHUNK]).tolist())
        return np.array(sorted(found), dtype=np.int64)


@dataclass(frozen=True)
class TokensOnDemand:
    """Makes the tokens of a batch when they are asked for; takes neither memory nor time before."""

    texts: Sequence[Sequence[str]]
    tokenizer: Tokenizer

    def chosen(self, indices: NDArray[np.int64], draws: NDArray[np.float64]) -> NDArray[np.int32]:
        """See `Tokens`."""
        own = [self.texts[index] for index in indices.tolist()]
        counts = np.array([len(texts) for texts in own])
        places = np.floor(draws * counts).astype(np.int64).tolist()
        chosen = [texts[place] for texts, place in zip(own, places, strict=True)]
        try:
            return self.tokenizer.encode(chosen)
        except TextError as error:
            raise bad_text(zip(indices.tolist(), chosen, strict=True), self.tokenizer) from error

    def distinct_ids(self) -> NDArray[np.int64]:
        """See `Tokens`; this reads all texts."""
        found: set[int] = set()
        for texts in self.texts:
            found.update(np.unique(self.tokenizer.encode(texts)).tolist())
        return np.array(sorted(found), dtype=np.int64)


def bad_text(texts: Any, tokenizer: Tokenizer) -> DataError:
    """The error for the first of the (row, text) that the tokenizer can't take; one of them must be."""
    for row, text in texts:
        try:
            tokenizer.encode([text])
        except TextError as error:
            return DataError(f"data.text_columns: a text of row {row} can't be used: {text[:40]!r}: {error}")
    raise AssertionError("each text alone is good, and all together are not")

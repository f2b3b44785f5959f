"""What is told to and by the store of an engine: its facts, one search, what it takes, and a hit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protoclip.client.results import Hit
from protoclip.search.conditions import Condition


@dataclass(frozen=True)
class StoreFacts:
    """What a store says of itself, as the engine holds it.

    Attributes: as of `Index`; `exact`: searches compare with every vector, unless they are asked otherwise.
    """

    model: str
    fingerprint: str
    dim: int
    artifact: str | None
    exact: bool


@dataclass(frozen=True)
class Look:
    """One search of an engine: which entries count, and how hard it looks.

    Attributes:
        condition: that must hold.
        without: ids that are no answer.
        exact: compare with every vector.
        ef_search: the length of HNSW's list of candidates; None: the store's own.
    """

    condition: Condition
    without: Sequence[str]
    exact: bool
    ef_search: int | None


@dataclass(frozen=True)
class EngineStats:
    """What a store holds and takes: entries, and bytes with all indexes; None where the engine doesn't tell."""

    entries: int
    bytes: int | None


def hit(name: str, score: float, metadata: Mapping[str, Any]) -> Hit:
    """A hit; the norm of a float32 vector is 1 but for rounding."""
    return Hit(name, min(1.0, max(-1.0, score)), metadata)

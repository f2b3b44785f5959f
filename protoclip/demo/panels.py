"""What the report shows of one run, ready for the page: plain values and the bytes of picture files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchHit:
    """One found picture: its file's bytes, what it is called, and its cosine."""

    picture: bytes
    label: str
    score: float


@dataclass(frozen=True)
class SearchPanel:
    """A query, and what it found, best first. A query by picture has the picture beside its name."""

    query: str
    hits: tuple[SearchHit, ...]
    picture: bytes | None = None


@dataclass(frozen=True)
class ClassificationPanel:
    """A picture, its true class, and the classes that were found with their probabilities, best first."""

    picture: bytes
    truth: str
    answers: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Latency:
    """How fast one request was answered by the server."""

    name: str
    p50_ms: float
    p95_ms: float
    num_requests: int
    items_per_s: float


@dataclass(frozen=True)
class Timing:
    """How long one part of the way took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Fact:
    """Something else worth saying, for instance the parity verdict: its name and its value."""

    name: str
    value: str

"""The contents of the demo's report, as the template needs them: plain values and the bytes of picture files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchHit:
    """One found picture: its file's bytes, its name, and its cosine."""

    picture: bytes
    label: str
    score: float


@dataclass(frozen=True)
class SearchPanel:
    """A query and its hits, best first. A query by picture has the picture beside its name."""

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
    """Latency of one request to the server."""

    name: str
    p50_ms: float
    p95_ms: float
    num_requests: int
    items_per_s: float

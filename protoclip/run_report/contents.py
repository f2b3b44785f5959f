"""What a run's page shows, as its templates need it: plain values and the bytes of picture files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """How long one part of the demo took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Fact:
    """Another line of the report, for instance the parity verdict: its name and its value."""

    name: str
    value: str


@dataclass(frozen=True)
class Neighbour:
    """A found picture, its label text, its cosine, and whether it is another drawing of the query's thing."""

    picture: bytes
    label: str
    cosine: float
    same: bool


@dataclass(frozen=True)
class NeighbourPanel:
    """A query picture and its nearest neighbours, best first.

    Attributes:
        picture: the query.
        label: its label text.
        kind: its class.
        num_same: other drawings of the same thing that could have been found.
        found: the nearest neighbours.
    """

    picture: bytes
    label: str
    kind: str
    num_same: int
    found: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Neighbours:
    """Some panels, and how often, over all query pictures with another of the same thing, the nearest was one."""

    panels: tuple[NeighbourPanel, ...]
    column: str
    num_asked: int
    num_pictures: int
    num_right: int


@dataclass(frozen=True)
class Mistake:
    """A picture, its own text with the rank (1 is best) and cosine, and the texts found instead with theirs."""

    picture: bytes
    label: str
    rank: int
    cosine: float
    found: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Confusion:
    """How many of the `size` pictures of a class found a text of another class first."""

    true: str
    found: str
    count: int
    size: int


@dataclass(frozen=True)
class Mistakes:
    """The worst pictures, the most confused classes, and the number of pictures that were right.

    Attributes:
        worst: every class's worst picture, worst first.
        confusions: most frequent first.
        column: the column that holds the classes.
        num_pictures: of the part.
        num_texts: to choose from.
        num_right: pictures whose own text was found first.
        num_other_class: pictures for which a text of another class was found first.
    """

    worst: tuple[Mistake, ...]
    confusions: tuple[Confusion, ...]
    column: str
    num_pictures: int
    num_texts: int
    num_right: int
    num_other_class: int

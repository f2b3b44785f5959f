"""The kinds of detectors, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError

from .centres import Centres
from .concepts import Concepts
from .gaussian import Gaussian
from .mixture import Mixture, Reading
from .neighbours import Neighbours
from .trained import TrainedMixture
from .vectors import Array, Scores

Labels = NDArray[np.int64]


class Scorer(Protocol):
    """What one kind learned."""

    def score(self, vectors: Array) -> Scores:
        """`[N]`, higher for what is known, from `[N, D]` of unit norm."""
        ...

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a file keeps of it."""
        ...


@runtime_checkable
class NamesClass(Protocol):
    """A scorer that keeps classes apart."""

    def nearest_class(self, vectors: Array) -> Labels:
        """The number of the class that each of `[N, D]` is most like, `[N]`."""
        ...


@dataclass(frozen=True)
class FitOptions:
    """Attributes:
    per_class: prototypes of a class, for mixtures.
    k: which neighbour counts.
    seed: of what is drawn.
    """

    per_class: int = 6
    k: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, most in (("per_class", self.per_class, 1000), ("k", self.k, 1000)):
            if not 1 <= value <= most:
                raise ConfigError(f"{name}={value} is out of range: use 1 to {most}")


class _Kind(Protocol):
    def __call__(self, vectors: Array, labels: Labels, options: FitOptions) -> Scorer: ...


FITS: Mapping[str, _Kind] = {
    "mixture": lambda vectors, labels, options: Mixture.fit(
        vectors, labels, per_class=options.per_class, seed=options.seed
    ),
    "mixture_posterior": lambda vectors, labels, options: Mixture.fit(
        vectors, labels, per_class=options.per_class, reading="posterior", seed=options.seed
    ),
    "mahalanobis": lambda vectors, labels, options: Gaussian.fit(vectors),
    "neighbours": lambda vectors, labels, options: Neighbours.fit(vectors, k=options.k, seed=options.seed),
    "energy": lambda vectors, labels, options: Centres.fit(vectors, labels, "energy"),
    "max_softmax": lambda vectors, labels, options: Centres.fit(vectors, labels, "max_softmax"),
}
"""Those that learn from pictures."""
FROM_TEXTS = "concepts"
TRAINED: Mapping[Reading, str] = {"nearest": "palm", "posterior": "palm_posterior"}
"""Those that a run learned."""
KINDS = (*FITS, FROM_TEXTS, *TRAINED.values())
_NEEDS_TWO_CLASSES = ("energy", "max_softmax")


def fit_scorer(kind: str, vectors: Array, labels: Labels, num_classes: int, options: FitOptions) -> Scorer:
    """What `kind` learns from `[N, D]` vectors of unit norm and their classes `[N]`.

    Raises:
        ConfigError: an unknown kind, or too few classes for it.
    """
    if kind not in FITS:
        raise ConfigError(f"kind={kind!r} is unknown: use one of {', '.join(FITS)}")
    if kind in _NEEDS_TWO_CLASSES and num_classes < 2:
        raise ConfigError(
            f"{kind} needs two classes or more, and {num_classes} is given: use mixture or neighbours"
        )
    return FITS[kind](vectors, labels, options)


def scorer_from(kind: str, arrays: Mapping[str, NDArray[Any]]) -> Scorer:
    """From what its `arrays` gave.

    Raises:
        KeyError: an unknown kind, or an array is missing.
    """
    makers: dict[str, Callable[[], Scorer]] = {
        "mixture": lambda: Mixture.from_arrays(arrays, "nearest"),
        "mixture_posterior": lambda: Mixture.from_arrays(arrays, "posterior"),
        "mahalanobis": lambda: Gaussian.from_arrays(arrays),
        "neighbours": lambda: Neighbours.from_arrays(arrays),
        "energy": lambda: Centres.from_arrays(arrays, "energy"),
        "max_softmax": lambda: Centres.from_arrays(arrays, "max_softmax"),
        FROM_TEXTS: lambda: Concepts.from_arrays(arrays),
        TRAINED["nearest"]: lambda: TrainedMixture.from_arrays(arrays, "nearest"),
        TRAINED["posterior"]: lambda: TrainedMixture.from_arrays(arrays, "posterior"),
    }
    return makers[kind]()

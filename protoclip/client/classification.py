"""From vectors of pictures to labels. `n` pictures, `C` classes, `k` best ones, `D` embedding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError
from protoclip.contract.zero_shot import cosine_probabilities

from .class_bank import ClassBank
from .discovery import ServedModel
from .inputs import check_comparable
from .judged import check_has_detector
from .results import Classification
from .transport import Array


class Judgement(Protocol):
    """Whether a picture is of a known kind."""

    @property
    def known(self) -> bool | None:
        """Whether it is; None where what judges has no threshold."""

    @property
    def score(self) -> float:
        """Higher for what is known."""

    @property
    def reason(self) -> str:
        """One line that says so."""


class Judge(Protocol):
    """What says whether pictures are of known kinds: `protoclip.Detector`."""

    def check_model(self, fingerprint: str, model: str = "") -> None:
        """Raises ConfigError where it is for vectors of another model."""

    def judge(self, embeddings: Array) -> Sequence[Judgement]:
        """One for each of `embeddings` `[n, D]`."""


AnyDetector: TypeAlias = Judge | Literal["served"]
"""A detector here, or the one that the server has beside the model."""

_AT_ONCE = 256
"""Pictures whose cosines with all classes are in memory: 10 MB with 10,000 classes."""


@dataclass(frozen=True)
class Choice:
    """What an answer names: the best label, or with `multi_label` all whose cosine is `threshold` or more.

    Attributes:
        top_k: how many labels have a cosine and a probability in the answer; None: all. More than there are: all.
        detector: says of each picture whether it is of a known kind; None: nothing does.

    Raises:
        ConfigError: `top_k` is no number from 1, `threshold` none from -1 to 1, one of the others goes alone, or
            `detector` is another text than "served".
    """

    top_k: int | None = None
    multi_label: bool = False
    threshold: float | None = None
    detector: AnyDetector | None = None

    def __post_init__(self) -> None:
        if isinstance(self.detector, str) and self.detector != "served":
            raise ConfigError(
                f"detector={self.detector!r} is unknown: give a Detector, as Detector.open(path) reads one, or "
                "'served' for the server's"
            )
        if self.top_k is not None and (not isinstance(self.top_k, int | np.integer) or self.top_k < 1):
            raise ConfigError(f"top_k={self.top_k!r} must be a whole number, at least 1")
        if self.multi_label and self.threshold is None:
            raise ConfigError(
                "multi_label=True needs threshold=, the cosine from which on a label fits: models differ in it, "
                "and `cosines` of some answers show yours"
            )
        if self.threshold is not None and not self.multi_label:
            raise ConfigError(
                f"threshold={self.threshold} is for multi_label=True: without it the best label is the answer"
            )
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise ConfigError(f"threshold={self.threshold} is no cosine: give a number from -1 to 1")


def check_classes(classes: ClassBank, model: ServedModel, choice: Choice) -> None:
    """Raises ConfigError for classes or a detector of another model, and for one class of probability 1."""
    classes.check_model(model)
    if isinstance(choice.detector, str):
        check_has_detector(model)
    elif choice.detector is not None:
        choice.detector.check_model(model.fingerprint, model.prefix)
    if not choice.multi_label:
        check_comparable(classes.labels, model.probabilities)


@dataclass(frozen=True)
class Scored:
    """What a picture has in common with each of `C` classes.

    Attributes:
        cosines: `[C]`.
        probabilities: `[C]`; None where a softmax says nothing, which compares labels that exclude each other.
    """

    cosines: Array
    probabilities: Array | None


def scored(vectors: Array, classes: ClassBank, model: ServedModel, choice: Choice) -> Iterator[Scored]:
    """One for each of `vectors` `[n, D]`, of unit norm and finite; memory holds those of `_AT_ONCE` pictures."""
    has_any = not choice.multi_label or model.probabilities == "sigmoid"
    for start in range(0, len(vectors), _AT_ONCE):
        cosines = vectors[start : start + _AT_ONCE] @ classes.vectors.T
        if has_any:
            probabilities = cosine_probabilities(cosines, model.temperature, model.sigmoid_bias)
            yield from map(Scored, cosines, probabilities)
        else:
            yield from (Scored(row, None) for row in cosines)


def best_places(cosines: Array, k: int) -> NDArray[np.int64]:
    """Places `[k]` of the `k` largest of `cosines` `[C]`, largest first, equal ones in their order; `k` is 1 to C.

    Several sigmoids can be rounded to 1, and weights of a softmax too: so cosines say which class is best.
    """
    if k == 1:
        return np.array([cosines.argmax()])
    smallest = np.partition(cosines, len(cosines) - k)[len(cosines) - k]
    candidates = np.flatnonzero(cosines >= smallest)
    return candidates[np.argsort(-cosines[candidates], kind="stable")][:k]


def classifications(
    vectors: Array,
    classes: ClassBank,
    model: ServedModel,
    choice: Choice,
    served: Sequence[Judgement] = (),
) -> list[Classification]:
    """The answers for `vectors` `[n, D]`, of unit norm and finite.

    Args:
        served: what the server's detector says of each, where `choice` wants that.
    """
    answers = [_answer(one, classes.labels, choice) for one in scored(vectors, classes, model, choice)]
    if choice.detector is None:
        return answers
    judged = served if isinstance(choice.detector, str) else choice.detector.judge(vectors)
    return [
        replace(answer, known=one.known, known_score=one.score, reason=one.reason)
        for answer, one in zip(answers, judged, strict=True)
    ]


def _answer(picture: Scored, labels: Sequence[str], choice: Choice) -> Classification:
    cosines, probabilities = picture.cosines, picture.probabilities
    best = best_places(cosines, min(choice.top_k or 1, len(labels)))
    first = int(best[0])
    # Best first where only some are asked for, and otherwise as they were given.
    places = None if choice.top_k is None else best
    return Classification(
        label=labels[first],
        score=math.nan if probabilities is None else float(probabilities[first]),
        scores={} if probabilities is None else _by_label(labels, probabilities, places),
        cosine=float(cosines[first]),
        cosines=_by_label(labels, cosines, places),
        labels=tuple(labels[place] for place in fitting_places(cosines, choice).tolist()),
    )


def fitting_places(cosines: Array, choice: Choice) -> NDArray[np.int64]:
    """Places of the labels that are the answer, best first: one, or with `multi_label` up to `top_k` or none."""
    if choice.threshold is None:
        return best_places(cosines, 1)
    num_fitting = int((cosines >= choice.threshold).sum())
    num_wanted = min(num_fitting, choice.top_k or num_fitting)
    return best_places(cosines, num_wanted) if num_wanted else np.zeros(0, dtype=np.int64)


def _by_label(labels: Sequence[str], values: Array, places: NDArray[np.int64] | None) -> dict[str, float]:
    if places is None:
        return dict(zip(labels, values.tolist(), strict=True))
    return {labels[place]: float(values[place]) for place in places.tolist()}

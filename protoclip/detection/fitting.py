"""Detectors from known pictures, or from names alone. `N` pictures, `D` embedding."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from protoclip.contract.errors import ConfigError, DataError

from .concepts import Concepts, mine_negatives
from .detector import Detector
from .held_out import part
from .kinds import FROM_TEXTS, FitOptions, Labels, fit_scorer
from .threshold import find_threshold
from .vectors import Centring, checked


def fit_detector(
    embeddings: ArrayLike,
    labels: Sequence[str] | None = None,
    *,
    kind: str = "neighbours",
    accept: float = 0.95,
    per_class: int = 6,
    k: int = 5,
    centre: bool = False,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    fingerprint: str = "",
    model: str = "",
) -> Detector:
    """Learns what is known from pictures of it; a fifth of each class is held out for the threshold.

    Args:
        embeddings: `[N, D]` of any norm.
        labels: `[N]`, the class of each; None: all are of one.
        kind: "neighbours", "mahalanobis", "mixture" (prototypes, the nearest counts), "mixture_posterior" (all
            count), "energy" or "max_softmax".
        accept: share of known pictures that the threshold accepts.
        per_class: prototypes of a class, fewer for a class with fewer pictures.
        k: for "neighbours": which one counts. A class with fewer pictures to learn from is hardly ever known, of
            which a FewPicturesWarning tells.
        centre: take the mean of all known embeddings off first, and normalise what is left.
        seed: of what is held out and drawn; the same seed and data give the same detector.
        groups: `[N]`, what each picture shows, such as a product: whole groups are held out, and one picture of
            each sets the threshold. None: every picture is a thing of its own.
        fingerprint: of the model that made the embeddings, which `check_model` compares.
        model: its prefix.

    Raises:
        ConfigError: an unknown kind, a number out of range, or too few classes for the kind.
        DataError: no pictures, an embedding that is not finite or all zeros, a label that is no text, more or
            fewer labels or groups than embeddings, or too few pictures for a threshold.
    """
    vectors, (names, numbers) = checked(embeddings), numbered_classes(labels, len(np.atleast_2d(embeddings)))
    learned, held_out = part(numbers, seed, groups)
    centring = Centring.fit(vectors[learned], centre)
    centred = centring(vectors)
    options = FitOptions(per_class=per_class, k=k, seed=seed)
    if kind == "neighbours":
        _warn_of_few(names, numbers[learned], k)
    scorer = fit_scorer(kind, centred[learned], numbers[learned], len(names), options)
    threshold = find_threshold(scorer.score(centred[held_out]), accept)
    num_fit = int(learned.sum())
    return Detector(kind, scorer, centring, threshold, names, num_fit, fingerprint, model)


class FewPicturesWarning(UserWarning):
    """Classes have fewer pictures than the detector looks at."""


def _warn_of_few(names: Sequence[str], learned: Labels, k: int) -> None:
    counts = np.bincount(learned, minlength=len(names))
    few = [name for name, count in zip(names, counts, strict=False) if count < k]
    if few:
        warnings.warn(
            f"{len(few)} of {len(names)} classes, such as {few[0]!r}, have fewer than k={k} pictures to "
            "learn from: theirs are hardly ever known; lower k, or take kind 'mixture'",
            FewPicturesWarning,
            stacklevel=3,
        )


def fit_from_names(
    names: ArrayLike,
    known: ArrayLike | None = None,
    *,
    labels: Sequence[str],
    words: ArrayLike | None = None,
    num_negatives: int = 1000,
    accept: float = 0.95,
    fingerprint: str = "",
    model: str = "",
) -> Detector:
    """Learns what is known from its names alone; pictures only set the threshold. With a client: `fit_names`.

    Args:
        names: `[C, D]`, the text vector of each class.
        known: `[N, D]`, pictures of the known, of any norm; None: the detector has no threshold yet.
        labels: `[C]`, the names.
        words: `[V, D]`, texts of a vocabulary, of which the farthest from all names stand for what is not known;
            None: maximum concept matching.
        num_negatives: how many of them.
        accept: as of `fit_detector`.
        fingerprint: as of `fit_detector`.
        model: as of `fit_detector`.

    Raises:
        ConfigError: a number out of range, or one name alone without `words`.
        DataError: an embedding that is not finite or all zeros, of another D, or too few pictures.
    """
    known_names = checked(names)
    negatives = known_names[:0]
    if words is not None:
        vocabulary = checked(words, known_names.shape[1])
        if num_negatives < 1:
            raise ConfigError(f"num_negatives={num_negatives} is out of range: use 1 or more")
        negatives = vocabulary[mine_negatives(vocabulary, known_names, num_negatives)]
    elif len(known_names) < 2:
        raise ConfigError(
            "one name alone has always all of the probability: give two, or words to compare it with"
        )
    # The cosine between a picture and a text is what the model was trained for: nothing is taken off.
    centring = Centring.fit(known_names, enabled=False)
    scorer = Concepts(known_names, negatives)
    found = Detector(FROM_TEXTS, scorer, centring, None, tuple(labels), 0, fingerprint, model)
    return found if known is None else found.calibrated(known, accept)


def numbered_classes(labels: Sequence[str] | None, count: int) -> tuple[tuple[str, ...], Labels]:
    """Names of the classes, and their numbers `[count]`; no names without labels.

    Raises:
        DataError: as `fit_detector`.
    """
    if not count:
        raise DataError("no embeddings of known pictures: give at least one")
    if labels is None:
        return (), np.zeros(count, dtype=np.int64)
    if len(labels) != count:
        raise DataError(f"{len(labels)} labels for {count} embeddings: give one each")
    for row, label in enumerate(labels):
        _check_label(row, label)
    names = sorted(set(labels))
    places = {name: place for place, name in enumerate(names)}
    return tuple(names), np.array([places[label] for label in labels], dtype=np.int64)


def _check_label(row: int, label: object) -> None:
    if not isinstance(label, str):
        raise DataError(f"the label at position {row} is {label!r:.60}: give text")
    if not label:
        raise DataError(f"the label at position {row} is empty: name its class, or leave the picture out")
    try:
        label.encode()
    except UnicodeEncodeError:
        raise DataError(f"the label at position {row}, {label[:60]!a}, is no UTF-8: name its class anew") from None

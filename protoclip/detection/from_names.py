"""Detectors from names alone, as a client's model embeds them. `C` names, `V` words, `D` embedding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from protoclip.contract.errors import ConfigError

from .concepts import mine_negatives
from .detector import Detector
from .fitting import fit_from_names
from .vectors import Array
from .vocabulary import bundled_words, without_names

NUM_NEGATIVES = 1000
_DECIMALS = 5
"""To which two vectors agree that are the same but for the batch that they were computed in."""


class Names(Protocol):
    """Classes with their vectors: `protoclip.ClassBank`."""

    @property
    def labels(self) -> tuple[str, ...]:
        """`[C]`, each once."""

    @property
    def templates(self) -> tuple[str, ...]:
        """Texts with one `{}` each."""

    @property
    def vectors(self) -> Array:
        """`[C, D]`, unit norm."""

    @property
    def fingerprint(self) -> str:
        """Of the model that made them."""

    @property
    def model(self) -> str:
        """Its prefix."""


class EmbedsNames(Protocol):
    """What has texts embedded: `protoclip.Client`."""

    def class_bank(self, labels: Iterable[str], templates: str | Sequence[str] = ...) -> Names:
        """Each label's texts, embedded and averaged."""


def fit_names(
    client: EmbedsNames,
    names: Names,
    *,
    num_negatives: int = NUM_NEGATIVES,
    words: Iterable[str] | None = None,
) -> Detector:
    """A detector of what the names say, made without any picture; so it has no threshold until `calibrated`.

    With negatives its score is the probability that the names have together among names and negatives (NegLabel);
    without, that of the likeliest name (maximum concept matching). Of several templates the first one mines the
    negatives, and all of them make their vectors.

    Args:
        client: of the model that embedded the names.
        names: as `client.class_bank(labels, templates)` makes them.
        num_negatives: words of the vocabulary, the farthest from all names, that stand for what is not known; 0:
            none.
        words: the vocabulary; None: `protoclip.detection.vocabulary.bundled_words`, which are English. A word that
            is a name too does not count.

    Raises:
        ConfigError: two names with the same vector, one name alone without negatives, `num_negatives` below 0, no
            word that is not a name, a word that can't be encoded, or a client of another model.
        DataError: a name whose vector is all zeros or not finite.
        ServerError: as of the client's methods.
    """
    _check_names(names)
    if num_negatives < 0:
        raise ConfigError(f"num_negatives={num_negatives} is out of range: use 0 or more")
    negatives = _negatives(client, names, num_negatives, words) if num_negatives else None
    return fit_from_names(
        names.vectors,
        labels=names.labels,
        words=negatives,
        num_negatives=max(num_negatives, 1),
        fingerprint=names.fingerprint,
        model=names.model,
    )


def _check_names(names: Names) -> None:
    first: dict[bytes, str] = {}
    for label, vector in zip(names.labels, _rounded(names.vectors), strict=True):
        other = first.setdefault(vector.tobytes(), label)
        if other is not label:
            raise ConfigError(
                f"the model gives {other!r} and {label!r} the same vector, and can't tell them apart: give one of "
                "them, or names in a language that it was trained on"
            )


def _negatives(client: EmbedsNames, names: Names, count: int, words: Iterable[str] | None) -> Array:
    """`[G, D]`, farthest first; G is `count`, or less where the vocabulary has fewer."""
    vocabulary = without_names(bundled_words() if words is None else words, names.labels)
    first = names.templates[:1]
    embedded = client.class_bank(vocabulary, first)
    if embedded.fingerprint != names.fingerprint:
        raise ConfigError(
            f"the names were embedded by {names.model} ({names.fingerprint}), and the client's model is "
            f"{embedded.model} ({embedded.fingerprint}): embed them with this client"
        )
    # Words that the model does not know may all have one vector, and count once.
    different = np.sort(np.unique(_rounded(embedded.vectors), axis=0, return_index=True)[1])
    lone = len(names.templates) == 1
    by_first = names.vectors if lone else client.class_bank(names.labels, first).vectors
    mined = different[mine_negatives(embedded.vectors[different], by_first, count)]
    if lone:
        return embedded.vectors[mined]
    return client.class_bank([vocabulary[place] for place in mined], names.templates).vectors


def _rounded(vectors: Array) -> Array:
    # Adding 0 makes 0 of -0, which are different bytes.
    return np.round(vectors, _DECIMALS) + np.float32(0)

"""Zero-shot classification in NumPy. `N` pictures, `C` classes, `M` texts per class, `D` embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .imagenet_templates import IMAGENET, SIMPLE

Array = NDArray[np.float32]
Probabilities = Literal["softmax", "sigmoid"]
"""Of a picture's classes: softmax, together 1, or sigmoid, each by itself."""

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "plain": ("{}",),
    "photo": ("{}", "a photo of a {}.", "a photo of the {}.", "a picture of a {}.", "a close-up photo of a {}."),
    "icon": ("{}", "an emoji of {}.", "an icon of {}.", "a drawing of {}."),
    "simple": SIMPLE,
    "imagenet": IMAGENET,
}


def fill_templates(labels: Sequence[str], templates: str | Sequence[str] = "plain") -> list[list[str]]:
    """Texts for every class, `[C][M]`.

    Args:
        labels: `[C]`, as they are inserted into the templates.
        templates: as of `find_templates`.

    Raises:
        ConfigError: as `find_templates`; no labels, or one text in place of a list of them.
    """
    found = find_templates(templates)
    if isinstance(labels, str):
        raise ConfigError(f"labels={labels!r} is one text: give a list of them")
    if not len(labels):
        raise ConfigError("labels is empty: give at least one class")
    return [[template.replace("{}", label) for template in found] for label in labels]


def find_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """The `M` templates, of which each class has a text.

    Args:
        templates: the name of a set in `TEMPLATES`, or texts with one `{}` each.

    Raises:
        ConfigError: an unknown set of templates or an empty one, or a template without exactly one `{}`.
    """
    if isinstance(templates, str):
        if templates not in TEMPLATES:
            raise ConfigError(
                f"templates={templates!r} is unknown: use one of {sorted(TEMPLATES)}, or give a list"
            )
        return TEMPLATES[templates]
    if not len(templates):
        raise ConfigError("templates is empty: give at least one, for example '{}'")
    for template in templates:
        if template.count("{}") != 1:
            raise ConfigError(f"template {template!r} needs exactly one {{}} where the label goes")
    return tuple(templates)


def class_vectors(text_vectors: Array, owners: NDArray[np.int64], num_classes: int) -> Array:
    """Mean of each class's text vectors, normalised: `[C, D]`.

    Args:
        text_vectors: `[T, D]`, unit norm.
        owners: `[T]`, the class of each text.
        num_classes: C. A class without texts, or with texts whose vectors cancel out, gets a zero row, which
            loses to any positive cosine. NaN in a text vector makes its class NaN.

    Raises:
        IndexError: an owner that is no class.
    """
    sums = np.zeros((num_classes, text_vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, owners, text_vectors)
    return normalised(sums)


def normalised(sums: Array) -> Array:
    """`[C, D]` sums of vectors brought to unit norm; a row of zeros stays one, and NaN makes its row NaN."""
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.maximum(norms, 1e-12)).astype(np.float32)


def probabilities_of(logit_bias: float | None) -> Probabilities:
    """What a model was trained for: a logit bias belongs to the sigmoid loss, and InfoNCE has none."""
    return "softmax" if logit_bias is None else "sigmoid"


def class_probabilities(
    image_vectors: Array, classes: Array, temperature: float, sigmoid_bias: float | None = None
) -> Array:
    """The probability of each class for each picture, `[N, C]`.

    Without `sigmoid_bias` `softmax(temperature · image_vectors · classesᵀ)` over the classes, rows summing to 1.
    With it `sigmoid(temperature · image_vectors · classesᵀ + sigmoid_bias)`: classes do not exclude each other, so
    that a row has any sum from 0 to C.

    Args:
        image_vectors: `[N, D]`, unit norm; N may be 0. NaN in a vector makes its row NaN.
        classes: `[C, D]`, unit norm.
        temperature: `exp(logit_scale)` of the model, of any size.
        sigmoid_bias: `logit_bias` of a model that was trained with the sigmoid loss.

    Raises:
        ValueError: no classes.
    """
    if not len(classes):
        raise ValueError("classes is empty: give at least one")
    return cosine_probabilities(image_vectors @ classes.T, temperature, sigmoid_bias)


def cosine_probabilities(cosines: Array, temperature: float, sigmoid_bias: float | None = None) -> Array:
    """As `class_probabilities`, from the cosines `[N, C]`; C is 1 or more."""
    if sigmoid_bias is not None:
        logits = temperature * cosines.astype(np.float64) + sigmoid_bias
        with np.errstate(invalid="ignore"):  # NumPy warns of NaN here, and nowhere else in this function
            return np.exp(-np.logaddexp(0.0, -logits)).astype(np.float32)
    scaled = np.float32(temperature) * cosines
    scaled -= scaled.max(axis=1, keepdims=True)
    weights = np.exp(scaled)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)

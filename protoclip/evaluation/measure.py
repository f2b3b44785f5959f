"""The numbers of one subset from its embeddings.

`N` pictures, `M` distinct label texts, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protoclip.sources import Pairs

from .bootstrap import bootstrap_mean
from .calibration import expected_calibration_error, top_probabilities
from .classify import Classes, class_numbers, zero_shot
from .features import MeasuredModel
from .few_shot import mean_hits
from .gap import alignment, modality_gap, uniformity
from .item_scores import per_class_weights
from .retrieval import best_ranks
from .scores import Classification, Geometry, Retrieval, Score, Subset
from .subsets import Captions, CaptionTexts, Labels, all_captions

Vectors = NDArray[np.float32]

KS = (1, 5, 10)
MAX_UNIFORMITY_ROWS = 4096


Logits = tuple[float, float | None]
"""How cosines become logits: their factor, and the summand of a sigmoid model."""


def logits_of(model: MeasuredModel) -> Logits | None:
    """A model's own; None for one that doesn't say."""
    temperature = getattr(model, "temperature", None)
    return None if temperature is None else (float(temperature), getattr(model, "logit_bias", None))


@dataclass(frozen=True)
class Part:
    """A subset's readable pictures, embedded.

    Attributes:
        pairs: N rows.
        image_vectors: `[N, D]`, unit norm.
        labels: the M label texts, and which belongs to which row.
        skipped: why the other pictures could not be read.
    """

    pairs: Pairs
    image_vectors: Vectors
    labels: Labels
    skipped: tuple[str, ...]


def measure_subset(
    part: Part,
    fitted_here: bool,
    classes: Sequence[Classes],
    embed: Callable[[Sequence[str]], Vectors],
    seed: int,
    captions: Captions = "label",
    logits: Logits | None = None,
) -> Subset:
    """Retrieval, classification and geometry of one subset.

    Args:
        part: the subset.
        fitted_here: the probes were fitted on this subset, so that their scores on it are left out.
        classes: the class columns; one without a class in this subset is left out.
        embed: gives `[M, D]`, unit norm, of M texts.
        seed: of the intervals.
        captions: which texts retrieval is among.
        logits: of the model, for calibration; None: it is left out.
    """
    labels, searched = part.labels, texts_of(part, captions)
    text_vectors = embed(labels.texts)
    return Subset(
        num_images=len(part.pairs),
        num_texts=len(searched.texts),
        num_skipped=len(part.skipped),
        retrieval=_retrieval(part, embed(searched.texts), searched, seed),
        classification={
            found.column: scores
            for found in classes
            if (scores := _classification(part, found, fitted_here, seed, logits))
        },
        geometry=_geometry(part.image_vectors, text_vectors, labels.owners),
    )


def texts_of(part: Part, captions: Captions) -> CaptionTexts:
    """The texts that a subset's retrieval is among."""
    if captions == "all":
        return all_captions(part.pairs)
    return CaptionTexts(part.labels.texts, np.arange(len(part.pairs)), part.labels.owners)


def _retrieval(part: Part, text_vectors: Vectors, texts: CaptionTexts, seed: int) -> Retrieval:
    images, pictures, numbers = part.image_vectors, texts.pictures, texts.numbers
    # A label text that no readable picture owns is a distractor, and asks for nothing.
    asked, asking = np.unique(numbers, return_inverse=True)
    to_text = best_ranks(images, text_vectors, pictures, numbers)
    to_image = best_ranks(text_vectors[asked], images, asking.reshape(-1), pictures)
    return Retrieval(
        image_to_text={k: _score(to_text < k, part.labels.groups, seed) for k in KS},
        text_to_image={k: _score(to_image < k, None, seed) for k in KS},
    )


def _classification(
    part: Part, classes: Classes, fitted_here: bool, seed: int, logits: Logits | None
) -> Classification | None:
    numbers = class_numbers(part.pairs, classes.column, classes.names)
    known = numbers >= 0
    if not known.any():
        return None
    vectors, truth, groups = part.image_vectors[known], numbers[known], part.labels.groups[known]
    hits = {way: zero_shot(vectors, found) == truth for way, found in classes.vectors.items()}
    probed: dict[str, NDArray[np.bool_]] = {}
    if not fitted_here and classes.linear is not None and classes.neighbours is not None:
        probed["linear_probe"] = classes.linear.predict(vectors) == truth
        probed["neighbours"] = classes.neighbours.predict(vectors) == truth
    scores = {name: _score(found, groups, seed) for name, found in (hits | probed).items()}
    weights = per_class_weights(truth)
    few = {} if fitted_here else classes.few_shot
    return Classification(
        num_classes=len(classes.names),
        majority=float(np.bincount(truth).max() / len(truth)),
        zero_shot={way: scores[way] for way in hits},
        linear_probe=scores.get("linear_probe"),
        neighbours=scores.get("neighbours"),
        mean_per_class={name: _score(found * weights, groups, seed) for name, found in (hits | probed).items()},
        calibration_error=_calibration(vectors, classes, hits, logits),
        few_shot={shots: _score(mean_hits(found, vectors, truth), groups, seed) for shots, found in few.items()},
    )


def _calibration(
    vectors: Vectors, classes: Classes, hits: Mapping[str, NDArray[np.bool_]], logits: Logits | None
) -> dict[str, float]:
    if logits is None:
        return {}
    return {
        way: expected_calibration_error(top_probabilities(vectors @ found.T, *logits), hits[way])
        for way, found in classes.vectors.items()
    }


def _geometry(image_vectors: Vectors, text_vectors: Vectors, owners: NDArray[np.int64]) -> Geometry:
    return Geometry(
        gap=modality_gap(image_vectors, text_vectors),
        alignment=alignment(image_vectors, text_vectors[owners]),
        uniformity_image=_uniformity(image_vectors),
        uniformity_text=_uniformity(text_vectors),
    )


def _uniformity(vectors: Vectors) -> float | None:
    """Over evenly spaced rows where there are many: the work grows with their square."""
    step = -(-len(vectors) // MAX_UNIFORMITY_ROWS)
    return uniformity(vectors[::step]) if len(vectors) > 1 else None


def _score(hits: ArrayLike, groups: NDArray[np.int64] | None, seed: int) -> Score:
    found = bootstrap_mean(hits, groups, seed=seed)
    return Score(value=min(found.mean, 1.0), low=found.low, high=min(found.high, 1.0), num_items=np.size(hits))

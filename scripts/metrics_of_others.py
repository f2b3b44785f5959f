"""Our measures beside clip_benchmark's, torchmetrics' and scikit-learn's on the same embeddings.

`make metrics-check` runs it; it ends with 1 where two differ by more than 1e-6.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score

from protoclip.contract.zero_shot import class_vectors
from protoclip.encoders.torchvision_workaround import make_torchvision_importable
from protoclip.evaluation.calibration import expected_calibration_error, top_probabilities
from protoclip.evaluation.classify import zero_shot
from protoclip.evaluation.item_scores import per_class_weights
from protoclip.evaluation.retrieval import best_ranks, recall_at

make_torchvision_importable()
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval  # noqa: E402
from torchmetrics.functional.classification import multiclass_calibration_error  # noqa: E402

TOLERANCE = 1e-6
NUM_IMAGES, NUM_CLASSES, NUM_TEMPLATES, DIM, FACTOR = 1500, 37, 3, 64, 20.0


class Given:
    """A model as clip_benchmark takes one, whose pictures and tokens are embeddings already."""

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def encode_text(self, texts: torch.Tensor) -> torch.Tensor:
        return texts


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def compare_retrieval(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """One to five captions a picture."""
    images = unit(rng, NUM_IMAGES, DIM)
    owners = np.repeat(np.arange(NUM_IMAGES), rng.integers(1, 6, size=NUM_IMAGES))
    texts = images[owners] + 4.0 * unit(rng, len(owners), DIM)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    batches = []
    for start in range(0, NUM_IMAGES, 250):
        rows = range(start, start + 250)
        batches.append(
            (torch.from_numpy(images[start : start + 250]), [np.flatnonzero(owners == row) for row in rows])
        )

    def look_up(numbers: list[int]) -> torch.Tensor:
        return torch.from_numpy(texts[np.array(numbers)])

    ks = (1, 5, 10)
    theirs = zeroshot_retrieval.evaluate(Given(), batches, look_up, "cpu", amp=False, recall_k_list=list(ks))
    numbers = np.arange(len(owners))
    to_text = recall_at(best_ranks(images, texts, owners, numbers), ks)
    to_image = recall_at(best_ranks(texts, images, numbers, owners), ks)
    for k in ks:
        yield f"picture → text R@{k}, clip_benchmark", to_text[k], theirs[f"text_retrieval_recall@{k}"]
        yield f"text → picture R@{k}, clip_benchmark", to_image[k], theirs[f"image_retrieval_recall@{k}"]


def compare_classification(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    truth = rng.choice(NUM_CLASSES, NUM_IMAGES, p=rng.dirichlet(np.ones(NUM_CLASSES)))
    centres = unit(rng, NUM_CLASSES, DIM)
    texts = centres[:, None] + 0.8 * unit(rng, NUM_CLASSES, NUM_TEMPLATES, DIM)
    texts = (texts / np.linalg.norm(texts, axis=-1, keepdims=True)).astype(np.float32)
    images = centres[truth] + 4.0 * unit(rng, NUM_IMAGES, DIM)
    images = (images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float32)
    owners = np.repeat(np.arange(NUM_CLASSES), NUM_TEMPLATES)
    ours = class_vectors(texts.reshape(-1, DIM), owners, NUM_CLASSES)
    names = [str(number) for number in range(NUM_CLASSES)]
    templates = [f"{{c}}|{number}" for number in range(NUM_TEMPLATES)]

    def look_up(filled: list[str]) -> torch.Tensor:
        places = [tuple(map(int, text.split("|"))) for text in filled]
        return torch.from_numpy(np.stack([texts[place] for place in places]))

    theirs = zeroshot_classification.zero_shot_classifier(Given(), look_up, names, templates, "cpu", amp=False)
    yield "class vectors, largest difference to clip_benchmark", float(np.abs(ours - theirs.numpy().T).max()), 0.0
    cosines = images @ ours.T
    hits = zero_shot(images, ours) == truth
    logits, target = torch.from_numpy(FACTOR * cosines), torch.from_numpy(truth)
    yield "top-1, clip_benchmark", float(hits.mean()), zeroshot_classification.accuracy(logits, target)[0]
    balanced = balanced_accuracy_score(truth, cosines.argmax(axis=1))
    yield "mean per class, scikit-learn", float((hits * per_class_weights(truth)).mean()), float(balanced)
    error = expected_calibration_error(top_probabilities(cosines, FACTOR, None), hits)
    reference = multiclass_calibration_error(logits.double(), target, NUM_CLASSES, n_bins=15, norm="l1")
    yield "calibration error, torchmetrics", error, float(reference)


def main() -> None:
    rng = np.random.default_rng(0)
    failed = False
    for name, ours, theirs in (*compare_retrieval(rng), *compare_classification(rng)):
        differs = abs(ours - theirs) > TOLERANCE
        failed |= differs
        print(f"{name:55} {ours:.8f} {theirs:.8f}{'  DIFFERS' if differs else ''}")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()

"""PALM's pure functions beside loops in NumPy over the paper's formulas, closed forms, and numerical gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from protoclip.detection.mixture import balanced_assignment
from protoclip.prototypes.palm import (
    assigned,
    contrast_loss,
    contrast_push,
    mixture_losses,
    moved,
    random_prototypes,
    through_means,
    weighted_means,
)

Array = NDArray[np.float64]
CLASSES, PER_CLASS, DIM, ROWS = 3, 4, 5, 11


def close(found: Tensor, expected: object) -> None:
    np.testing.assert_allclose(found.detach().numpy(), np.asarray(expected), rtol=0, atol=1e-10)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Features, classes of which one is unknown, and prototypes, in float64."""
    draw = torch.Generator().manual_seed(3)
    features = torch.nn.functional.normalize(torch.randn(ROWS, DIM, generator=draw).double(), dim=1)
    labels = torch.randint(0, CLASSES, (ROWS,), generator=draw)
    labels[4] = -1
    prototypes = random_prototypes(CLASSES * PER_CLASS, DIM, seed=5).double()
    return features, labels, torch.nn.functional.normalize(prototypes, dim=1)


def reference_weights(features: Array, labels: list[int], prototypes: Array, kept: int) -> Array:
    known = [row for row, label in enumerate(labels) if label >= 0]
    plan = np.exp(features[known] @ prototypes.T / 0.05)
    for _ in range(3):
        for column in range(plan.shape[1]):
            plan[:, column] /= plan[:, column].sum() * plan.shape[1]
        for row in range(plan.shape[0]):
            plan[row] /= plan[row].sum() * plan.shape[0]
    weights = np.zeros((len(labels), len(prototypes)))
    for place, row in enumerate(known):
        own = range(labels[row] * PER_CLASS, (labels[row] + 1) * PER_CLASS)
        largest = sorted(own, key=lambda column: -plan[place, column])[:kept]
        for column in largest:
            weights[row, column] = plan[place, column] / plan[place, largest].sum()
    return weights


def reference_contrast(prototypes: Array, per_class: int, temperature: float) -> float:
    losses = []
    for one in range(len(prototypes)):
        others = [other for other in range(len(prototypes)) if other != one]
        logits = {other: prototypes[one] @ prototypes[other] / temperature for other in others}
        own = [logits[other] for other in others if other // per_class == one // per_class]
        losses.append(np.log(sum(np.exp(value) for value in logits.values())) - (np.mean(own) if own else 0.0))
    return float(np.mean(losses))


@pytest.mark.parametrize("kept", [2, PER_CLASS, 9])
def test_assignment_is_that_of_loops(batch: tuple[Tensor, Tensor, Tensor], kept: int) -> None:
    features, labels, prototypes = batch
    found = assigned(features, labels, prototypes, PER_CLASS, kept)
    close(found, reference_weights(features.numpy(), labels.tolist(), prototypes.numpy(), kept))
    close(found.sum(dim=1), (labels >= 0).double())


def test_one_class_is_assigned_as_a_detector_does(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    features, _, prototypes = batch
    found = assigned(features, torch.zeros(ROWS, dtype=torch.int64), prototypes, len(prototypes), 5)
    close(found, balanced_assignment((features @ prototypes.T).numpy(), 5))


def test_a_batch_without_classes_weighs_nothing(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, prototypes = batch
    weights = assigned(features, torch.full_like(labels, -1), prototypes, PER_CLASS, 5)
    assert not weights.any()
    close(moved(prototypes, weighted_means(features, weights), 0.9), prototypes)


def test_prototypes_move_as_in_loops(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, prototypes = batch
    labels[labels == 2] = -1
    weights = assigned(features, labels, prototypes, PER_CLASS, 2)
    expected = prototypes.numpy().copy()
    for one in range(len(expected)):
        column = weights[:, one].numpy()
        if column.sum():
            mean = sum(weight / column.sum() * row for weight, row in zip(column, features.numpy(), strict=True))
            expected[one] = 0.9 * expected[one] + 0.1 * mean
            expected[one] /= np.linalg.norm(expected[one])
    close(moved(prototypes, weighted_means(features, weights), 0.9), expected)


def test_likelihood_is_that_of_loops(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, prototypes = batch
    weights = assigned(features, labels, prototypes, PER_CLASS, 3)
    expected = []
    for row, own in zip(features.numpy(), weights.numpy(), strict=True):
        logits = prototypes.numpy() @ row / 0.1
        expected.append(np.log(np.exp(logits).sum()) - (own * logits).sum())
    close(mixture_losses(features, weights, prototypes, 0.1), expected)


def test_likelihood_of_one_prototype_a_class_is_the_cross_entropy(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, prototypes = batch
    known = labels >= 0
    weights = assigned(features, labels, prototypes[:CLASSES], 1, 5)
    found = mixture_losses(features, weights, prototypes[:CLASSES], 0.1)[known]
    logits = features[known] @ prototypes[:CLASSES].T / 0.1
    close(found, torch.nn.functional.cross_entropy(logits, labels[known], reduction="none"))


@pytest.mark.parametrize("per_class", [1, 2, 4])
def test_contrast_is_that_of_loops(batch: tuple[Tensor, Tensor, Tensor], per_class: int) -> None:
    prototypes = batch[2]
    close(contrast_loss(prototypes, per_class, 0.5), reference_contrast(prototypes.numpy(), per_class, 0.5))


def test_gradients_are_the_numerical_ones(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, prototypes = batch
    weights = assigned(features, labels, prototypes, PER_CLASS, 3)
    leaf = features.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: mixture_losses(rows, weights, prototypes, 0.1), (leaf,))
    assert torch.autograd.gradcheck(
        lambda rows: contrast_loss(torch.nn.functional.normalize(rows, dim=1), 2, 0.5),
        (prototypes.clone().requires_grad_(),),
    )


def test_contrast_reaches_the_features_through_the_means(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    """Its value is that of the prototypes; a step against its gradient lowers what the means themselves give."""
    features, labels, prototypes = batch
    weights = assigned(features, labels, prototypes, PER_CLASS, PER_CLASS)
    leaf = features.clone().requires_grad_()
    loss = contrast_loss(through_means(prototypes, weighted_means(leaf, weights)), PER_CLASS, 0.5)
    close(loss, contrast_loss(prototypes, PER_CLASS, 0.5))
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert (gradient[labels >= 0].abs().sum(dim=1) > 0).all()
    assert not gradient[labels < 0].any()


def test_a_push_lowers_the_contrast_of_prototypes(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    prototypes, still = batch[2], torch.zeros_like(batch[2])
    push = contrast_push(prototypes, PER_CLASS, 0.5)
    after = moved(prototypes, still, 0.9, push)
    assert contrast_loss(after, PER_CLASS, 0.5) < contrast_loss(prototypes, PER_CLASS, 0.5)
    close(after.norm(dim=1), torch.ones(len(after)))


def test_nan_stays_nan(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, prototypes = batch
    features[0] = float("nan")
    weights = assigned(features, labels, prototypes, PER_CLASS, 3)
    assert mixture_losses(features, weights, prototypes, 0.1)[0].isnan()

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from protoclip.prototypes.features import Shard
from protoclip.prototypes.losses import Target, info_nce, prototype_loss, sigmoid_alignment
from protoclip.prototypes.means import cluster_means
from protoclip.prototypes.targets import (
    Clusters,
    ExternalClusters,
    external_loss,
    grouping_loss,
    labels_by_feature,
    labels_by_position,
    make_targets,
)
from scripts import load_script


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return load_script("tests/reference/protoclip_numpy.py")


def unit(rows: int, dim: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1)


def test_info_nce_equals_the_loop(reference: ModuleType) -> None:
    image, text, scale = unit(7, 5, 0), unit(7, 5, 1), torch.tensor(9.0, dtype=torch.float64)
    expected = reference.info_nce(image.numpy(), text.numpy(), 9.0)
    assert info_nce(image, text, image, text, scale).item() == pytest.approx(expected, abs=1e-12)


def test_info_nce_of_identical_rows_is_log_batch() -> None:
    same = unit(1, 5, 0).expand(6, 5)
    assert info_nce(same, same, same, same, torch.tensor(14.0)).item() == pytest.approx(math.log(6))


def test_local_rows_of_info_nce_average_to_the_whole() -> None:
    image, text, scale = unit(8, 4, 2), unit(8, 4, 3), torch.tensor(10.0, dtype=torch.float64)
    whole = info_nce(image, text, image, text, scale)
    halves = [info_nce(image[r : r + 4], text[r : r + 4], image, text, scale, first_row=r) for r in (0, 4)]
    assert torch.stack(halves).mean().item() == pytest.approx(whole.item(), abs=1e-12)


def test_sigmoid_equals_the_loop(reference: ModuleType) -> None:
    image, text = unit(6, 5, 4), unit(6, 5, 5)
    loss = sigmoid_alignment(image, text, torch.tensor(8.0), torch.tensor(-3.0))
    assert loss.item() == pytest.approx(reference.sigmoid_loss(image.numpy(), text.numpy(), 8.0, -3.0), abs=1e-9)


@pytest.mark.parametrize("temperature", [0.01, 0.5, 0.0])
def test_prototype_loss_equals_the_loop(reference: ModuleType, temperature: float) -> None:
    features, student, teacher = unit(9, 4, 6), unit(5, 4, 7) * 0.8, unit(5, 4, 8) * 0.7
    valid = torch.tensor([True, True, False, True, True])
    labels = torch.tensor([0, 1, 2, 3, 4, -1, 1, 0, 4])
    scale = torch.tensor(12.0, dtype=torch.float64)
    loss = prototype_loss(features, labels, Target(student, valid, teacher), scale, temperature)
    expected = reference.prototype_loss(
        features.numpy(), labels.tolist(), student.numpy(), teacher.numpy(), valid.tolist(), 12.0, temperature
    )
    assert loss.item() == pytest.approx(expected, abs=1e-10)


def test_prototype_loss_gradient_is_right() -> None:
    student, teacher = unit(4, 3, 1) * 0.9, unit(4, 3, 2)
    target = Target(student, torch.tensor([True, True, True, False]), teacher)
    labels = torch.tensor([0, 2, 3, 1])

    def loss(features: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return prototype_loss(features, labels, target, scale, 0.1)

    inputs = (unit(4, 3, 3).requires_grad_(), torch.tensor(5.0, dtype=torch.float64, requires_grad=True))
    assert torch.autograd.gradcheck(loss, inputs)


def test_without_a_valid_cluster_the_term_is_dropped() -> None:
    features = unit(3, 4, 0).requires_grad_()
    target = Target(torch.zeros(2, 4, dtype=torch.float64), torch.tensor([False, False]), None)
    loss = prototype_loss(features, torch.tensor([0, 1, 0]), target, torch.tensor(10.0), 0.01)
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert torch.count_nonzero(features.grad) == 0


def test_an_empty_cluster_changes_nothing() -> None:
    """A zero row that took part in the softmax would move the loss."""
    features, student, labels = unit(6, 4, 1), unit(3, 4, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    scale = torch.tensor(10.0)
    plain = prototype_loss(features, labels, Target(student, torch.ones(3, dtype=torch.bool), student), scale, 0.1)
    padded = torch.cat([student, torch.zeros(1, 4, dtype=torch.float64)])
    valid = torch.tensor([True, True, True, False])
    assert prototype_loss(features, labels, Target(padded, valid, padded), scale, 0.1).item() == pytest.approx(
        plain.item(), abs=1e-12
    )


def test_the_mask_survives_half_precision() -> None:
    features, student = unit(4, 4, 1).bfloat16(), unit(3, 4, 2).bfloat16()
    target = Target(student, torch.tensor([True, False, True]), student)
    assert torch.isfinite(prototype_loss(features, torch.tensor([0, 1, 2, 0]), target, torch.tensor(100.0), 0.01))


def test_back_translation_equals_the_loop(reference: ModuleType) -> None:
    features, labels = unit(40, 6, 3), torch.arange(40) * 7 % 11 % 9 - 1
    means, counts = cluster_means(features, labels, 10)
    expected, expected_counts = reference.back_translate(features.numpy(), labels.tolist(), 10)
    np.testing.assert_allclose(means.numpy(), expected, atol=1e-12)
    assert counts.tolist() == expected_counts
    assert counts[9] == 0


def test_back_translation_takes_the_modality_gap_out() -> None:
    """Shifting all student features by one vector shifts its prototypes along."""
    features, labels, shift = unit(30, 5, 0), torch.arange(30) % 4, unit(1, 5, 9)
    means, _ = cluster_means(features, labels, 4)
    shifted, _ = cluster_means(features + shift, labels, 4)
    np.testing.assert_allclose((shifted - means).numpy(), shift.expand(4, 5).numpy(), atol=1e-12)


def test_each_direction_uses_the_others_clusters(reference: ModuleType) -> None:
    image, text = unit(12, 4, 0), unit(12, 4, 1)
    image_clusters = Clusters(unit(3, 4, 2), torch.arange(12) % 3)
    text_clusters = Clusters(unit(3, 4, 3), torch.arange(12) // 4)
    external = ExternalClusters(torch.arange(12) % 2, 2)
    targets = make_targets(
        5,
        Shard(image, text, torch.arange(len(image))),
        (image_clusters, text_clusters),
        external,
        back_translation=True,
    )
    positions, scale = torch.tensor([3, 7, 11, 2]), torch.tensor(9.0, dtype=torch.float64)

    def direction(student: torch.Tensor, labels: torch.Tensor, centroids: torch.Tensor | None, k: int) -> float:
        means, counts = reference.back_translate(student.numpy(), labels.tolist(), k)
        teacher = None if centroids is None else centroids.numpy()
        return reference.prototype_loss(
            student[positions].numpy(),
            labels[positions].tolist(),
            means,
            teacher,
            [c > 0 for c in counts],
            9.0,
            0.1,
        )

    labels = labels_by_position(targets, positions, external.labels[positions])
    grouped = grouping_loss(targets, image[positions], text[positions], labels, scale, 0.1)
    expected = direction(image, text_clusters.labels, text_clusters.centroids, 3)
    expected += direction(text, image_clusters.labels, image_clusters.centroids, 3)
    assert grouped.item() == pytest.approx(expected / 2, abs=1e-10)
    outside = external_loss(targets, image[positions], text[positions], labels, scale)
    assert outside is not None
    expected = direction(image, external.labels, None, 2) + direction(text, external.labels, None, 2)
    assert outside.item() == pytest.approx(expected / 2, abs=1e-10)


def test_without_back_translation_the_student_side_is_the_teachers() -> None:
    image, text = unit(8, 4, 0), unit(8, 4, 1)
    clusters = (Clusters(unit(2, 4, 2), torch.arange(8) % 2), Clusters(unit(2, 4, 3), torch.arange(8) // 4))
    targets = make_targets(0, Shard(image, text, torch.arange(len(image))), clusters, None, back_translation=False)
    assert torch.equal(targets.image_from_text.student_prototypes, clusters[1].centroids)
    labels = labels_by_position(targets, torch.arange(8), None)
    assert external_loss(targets, image, text, labels, torch.tensor(1.0)) is None


def test_a_streamed_row_belongs_to_the_nearest_valid_centroid() -> None:
    """The longest centroid has the largest product with the row, but lies far; the nearest of all is invalid."""
    row = F.normalize(torch.tensor([[1.0, 0.1]], dtype=torch.float64), dim=1)
    centroids = torch.tensor([[3.0, 0.0], [0.9, 0.0], [1.0, 0.1]], dtype=torch.float64)
    other = Clusters(torch.eye(2, dtype=torch.float64), torch.tensor([0, 1]))
    members = Clusters(centroids, torch.tensor([0, 1]))
    features = Shard(unit(2, 2, 0), unit(2, 2, 1), torch.arange(2))
    targets = make_targets(0, features, (members, other), None, back_translation=True)
    image = row.clone().requires_grad_()
    labels = labels_by_feature(targets, image, row, None)
    assert labels.image.tolist() == [1]
    assert labels.text.tolist() == [0]
    assert labels.external is None
    assert not labels.image.requires_grad

"""The map's axes: a planted gap, the rest's variance, and what can't be projected."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from protoclip.reports.projection import principal_plane, project

D = 16


def planted(gap: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two clouds with more spread than a gap would need to hide in principal components."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=D)
    direction /= np.linalg.norm(direction)
    spread = rng.normal(size=(90, D)) * np.linspace(2.0, 0.1, D)
    spread -= np.outer(spread @ direction, direction) * 0.98
    return spread[:50], spread[50:] - spread[50:].mean(axis=0) + spread[:50].mean(axis=0) + gap * direction


def test_the_first_axis_separates_a_planted_gap() -> None:
    images, texts = planted(gap=0.7)
    found = project(images, texts)
    assert found.gap == pytest.approx(0.7)
    assert found.images[:, 0].max() < found.texts[:, 0].min()
    assert found.images[:, 0].mean() == pytest.approx(-0.35)
    assert found.texts[:, 0].mean() == pytest.approx(0.35)
    np.testing.assert_allclose(found.images[:, 1:].mean(axis=0), found.texts[:, 1:].mean(axis=0), atol=1e-9)
    # Principal components alone would not have shown it: the gap carries little of the variance.
    assert found.shares[0] < min(found.shares[1:])


def test_the_other_axes_are_the_principal_components_of_the_rest() -> None:
    images, texts = planted(gap=0.7)
    found = project(images, texts)
    rest = np.concatenate([images - images.mean(axis=0), texts - texts.mean(axis=0)])
    direction = (texts.mean(axis=0) - images.mean(axis=0)) / found.gap
    pca = PCA(2).fit(rest - np.outer(rest @ direction, direction))
    total = np.concatenate([images, texts]).var(axis=0).sum()
    assert found.shares[1:] == pytest.approx(pca.explained_variance_ * 89 / 90 / total)
    expected = pca.transform(rest - np.outer(rest @ direction, direction))
    ours = np.concatenate([found.images, found.texts])[:, 1:]
    np.testing.assert_allclose(np.abs(ours - ours.mean(axis=0)), np.abs(expected), atol=1e-9)


def test_axes_stand_at_right_angles_so_no_distance_grows() -> None:
    images, texts = planted(gap=0.7, seed=3)
    found = project(images, texts)
    flat, full = np.concatenate([found.images, found.texts]), np.concatenate([images, texts])
    for i in range(0, len(full), 7):
        drawn, real = np.linalg.norm(flat - flat[i], axis=1), np.linalg.norm(full - full[i], axis=1)
        assert (drawn <= real + 1e-9).all()
    assert sum(found.shares) <= 1 + 1e-12


def test_three_dimensions_are_kept_whole() -> None:
    rng = np.random.default_rng(5)
    images, texts = rng.normal(size=(8, 3)), rng.normal(size=(6, 3)) + 1
    found = project(images, texts)
    assert sum(found.shares) == pytest.approx(1)
    np.testing.assert_allclose(
        np.linalg.norm(found.images[:, None] - found.texts[None], axis=2),
        np.linalg.norm(images[:, None] - texts[None], axis=2),
    )


def test_the_same_input_gives_the_same_signs() -> None:
    images, texts = planted(gap=0.3)
    np.testing.assert_array_equal(project(images, texts).images, project(images.copy(), texts.copy()).images)


def test_an_axis_without_variance_is_all_zeros() -> None:
    vectors = np.eye(5)
    same = project(vectors, vectors)
    assert same.gap == 0
    assert same.shares[0] == 0
    np.testing.assert_array_equal(same.images[:, 0], 0)
    three = project(np.eye(3)[:2], np.eye(3)[2:])
    assert three.shares[2] == 0
    assert sum(three.shares) == pytest.approx(1)
    alike = project(np.ones((3, 4)), np.ones((2, 4)))
    assert (alike.gap, alike.shares) == (0, (0, 0, 0))


@pytest.mark.parametrize(
    ("images", "texts", "message"),
    [
        (np.zeros((1, 4)), np.zeros((1, 4)), "too few"),
        (np.zeros((5, 4)), np.zeros((0, 4)), "too few"),
        (np.zeros((5, 4)), np.zeros((5, 3)), "D ≥ 3"),
        (np.zeros((5, 2)), np.zeros((5, 2)), "D ≥ 3"),
        (np.full((5, 4), np.nan), np.zeros((5, 4)), "not finite"),
    ],
)
def test_what_has_no_map_is_refused(images: np.ndarray, texts: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        project(images, texts)


def test_the_plane_of_one_modality_is_its_two_principal_components() -> None:
    images, _ = planted(gap=0.7)
    places, shares = principal_plane(images)
    reference = PCA(2).fit(images)
    np.testing.assert_allclose(np.abs(places), np.abs(reference.transform(images)), atol=1e-9)
    np.testing.assert_allclose(shares, reference.explained_variance_ratio_, atol=1e-9)
    np.testing.assert_array_equal(places, principal_plane(images)[0])


def test_a_plane_without_variance() -> None:
    places, shares = principal_plane(np.ones((4, 5)))
    assert not places.any()
    assert shares == (0.0, 0.0)
    places, shares = principal_plane(np.eye(5)[[0, 1, 0, 1]])
    assert places[:, 0].any()
    assert not places[:, 1].any()


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (np.ones(3), "must be"),
        (np.ones((0, 3)), "must be"),
        (np.ones((3, 1)), "must be"),
        (np.full((3, 3), np.nan), "not finite"),
    ],
)
def test_what_has_no_plane(vectors: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        principal_plane(vectors)

"""Each kind of score against a loop or another library, and on made-up kinds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import oas
from sklearn.neighbors import NearestNeighbors

from protoclip.detection.centres import Centres
from protoclip.detection.concepts import NEGATIVE_SCALE, Concepts, mine_negatives
from protoclip.detection.gaussian import Gaussian, shrunk_covariance
from protoclip.detection.mixture import Mixture, balanced_assignment, fit_class
from protoclip.detection.neighbours import MOST_KEPT, Neighbours
from protoclip.detection.vectors import BLOCK, Centring, checked

Array = NDArray[np.float32]


def unit(vectors: NDArray[np.floating]) -> Array:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def assignment_by_loops(similarities: NDArray[np.float64], kept: int) -> NDArray[np.float64]:
    """As arXiv 2402.02653 says in section 3.2, one number at a time."""
    num, count = similarities.shape
    plan = [[float(np.exp(similarities[n, m] / 0.05)) for m in range(count)] for n in range(num)]
    for _ in range(3):
        for m in range(count):
            total = sum(plan[n][m] for n in range(num))
            for n in range(num):
                plan[n][m] /= total * count
        for n in range(num):
            total = sum(plan[n])
            plan[n] = [value / (total * num) for value in plan[n]]
    for n in range(num):
        least = sorted(plan[n])[-kept]
        plan[n] = [value if value >= least else 0.0 for value in plan[n]]
        total = sum(plan[n])
        plan[n] = [value / total for value in plan[n]]
    return np.array(plan)


@pytest.mark.parametrize("kept", [1, 3, 4])
def test_assignment_is_that_of_the_paper(random: np.random.Generator, kept: int) -> None:
    similarities = random.uniform(-1, 1, (9, 4))
    np.testing.assert_allclose(
        balanced_assignment(similarities, kept), assignment_by_loops(similarities, kept), atol=1e-12
    )


def test_prototypes_of_a_class_find_its_parts(random: np.random.Generator) -> None:
    parts = unit(random.normal(size=(3, 32)))
    vectors = unit(np.repeat(parts, 20, axis=0) + 0.05 * random.normal(size=(60, 32)))
    prototypes = fit_class(vectors, 3, random)
    np.testing.assert_allclose(np.linalg.norm(prototypes, axis=1), 1.0, atol=1e-6)
    assert (prototypes @ parts.T).max(axis=0).min() > 0.98


def test_mixtures_know_more_shapes_than_one_centre(random: np.random.Generator) -> None:
    """A class in two places far apart: its centre lies between them, where strangers are."""
    ends = unit(random.normal(size=(2, 32)))
    vectors = unit(np.repeat(ends, 30, axis=0) + 0.02 * random.normal(size=(60, 32)))
    between = unit(ends.sum(axis=0, keepdims=True))
    labels = np.zeros(60, dtype=np.int64)
    two, one = (Mixture.fit(vectors, labels, per_class=count) for count in (2, 1))
    assert two.score(between)[0] < two.score(vectors).min()
    assert one.score(between)[0] > one.score(vectors).max()


def test_the_nearest_class_is_that_of_the_nearest_prototype(random: np.random.Generator) -> None:
    centres = unit(random.normal(size=(4, 16)))
    labels = np.array([3, 0, 1, 2] * 8)
    vectors = unit(centres[labels] + 0.05 * random.normal(size=(32, 16)))
    mixture = Mixture.fit(vectors, labels, per_class=2)
    assert (mixture.nearest_class(vectors) == labels).all()
    nearest = (vectors @ mixture.prototypes.T).max(axis=1)
    np.testing.assert_allclose(mixture.score(vectors), nearest, atol=1e-6)
    weighted = Mixture.fit(vectors, labels, per_class=2, reading="posterior")
    weights = np.exp(vectors @ weighted.prototypes.T / 0.1)
    weights /= weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        weighted.score(vectors), (weights * (vectors @ weighted.prototypes.T)).sum(axis=1), atol=1e-6
    )


def test_identical_pictures_make_identical_prototypes(random: np.random.Generator) -> None:
    vectors = np.repeat(unit(random.normal(size=(1, 8))), 7, axis=0)
    prototypes = fit_class(vectors, 6, random)
    np.testing.assert_allclose(prototypes, vectors[:6], atol=1e-6)


@pytest.mark.parametrize("count", [1, 5, 40, 400])
def test_shrinkage_is_that_of_scikit_learn(random: np.random.Generator, count: int) -> None:
    vectors = random.normal(size=(count, 20)) * np.linspace(0.1, 3, 20)
    if count == 1:
        assert (shrunk_covariance(vectors)[0] == 0).all()
        return
    wanted, share = oas(vectors)
    found, found_share = shrunk_covariance(vectors)
    np.testing.assert_allclose(found, wanted, atol=1e-10)
    assert found_share == pytest.approx(share, abs=1e-10)


def test_distances_are_those_of_the_inverse_covariance(random: np.random.Generator) -> None:
    vectors = unit(random.normal(size=(300, 12)) * np.linspace(0.2, 2, 12))
    gaussian = Gaussian.fit(vectors)
    inverse = np.linalg.inv(shrunk_covariance(vectors)[0])
    rest = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    wanted = -np.einsum("nd,de,ne->n", rest, inverse, rest) / 12
    np.testing.assert_allclose(gaussian.score(vectors), wanted, rtol=1e-4)
    assert np.isfinite(Gaussian.fit(np.repeat(vectors[:1], 3, axis=0)).score(vectors)).all()


def test_neighbours_are_those_of_scikit_learn(random: np.random.Generator) -> None:
    kept, others = unit(random.normal(size=(50, 8))), unit(random.normal(size=(9, 8)))
    distances, _ = NearestNeighbors(n_neighbors=4).fit(kept).kneighbors(others)
    np.testing.assert_allclose(Neighbours.fit(kept, k=4).score(others), 1 - distances[:, -1] ** 2 / 2, atol=1e-5)
    assert Neighbours.fit(kept[:2], k=4).k == 2
    many = unit(random.normal(size=(MOST_KEPT + 5, 4)))
    assert len(Neighbours.fit(many).kept) == MOST_KEPT


def test_energy_and_softmax_are_those_of_the_logits(random: np.random.Generator) -> None:
    labels = np.array([0, 1, 2] * 10)
    vectors = unit(unit(random.normal(size=(3, 16)))[labels] + 0.1 * random.normal(size=(30, 16)))
    for reading in ("energy", "max_softmax"):
        centres = Centres.fit(vectors, labels, reading)  # type: ignore[arg-type]
        logits = centres.scale * vectors.astype(np.float64) @ centres.centres.T
        sums = np.exp(logits).sum(axis=1)
        wanted = np.log(sums) / centres.scale if reading == "energy" else np.exp(logits.max(axis=1)) / sums
        np.testing.assert_allclose(centres.score(vectors), wanted, rtol=1e-6)


def test_names_alone_tell_the_known(random: np.random.Generator) -> None:
    names, strange = unit(random.normal(size=(5, 32))), unit(random.normal(size=(40, 32)))
    pictures = unit(names + 0.1 * random.normal(size=(5, 32)))
    matching = Concepts(names, names[:0])
    cosines = pictures @ names.T
    wanted = (np.exp(cosines) / np.exp(cosines).sum(axis=1, keepdims=True)).max(axis=1)
    np.testing.assert_allclose(matching.score(pictures), wanted, rtol=1e-6)
    negatives = strange[mine_negatives(strange, names, 10)]
    both = Concepts(names, negatives)
    known, not_known = (
        np.exp(NEGATIVE_SCALE * (pictures @ side.T).astype(np.float64)).sum(axis=1) for side in (names, negatives)
    )
    np.testing.assert_allclose(both.score(pictures), known / (known + not_known), rtol=1e-4)
    assert both.score(pictures).min() > 0.9
    assert both.score(negatives).max() < 0.1
    many = np.tile(pictures, (BLOCK // len(pictures) + 2, 1))
    np.testing.assert_allclose(both.score(many)[-len(pictures) :], both.score(pictures), rtol=1e-5)
    assert both.score(pictures[:0]).shape == (0,)


def test_the_farthest_words_are_negative(random: np.random.Generator) -> None:
    names = np.eye(3, 4, dtype=np.float32)
    words = unit(np.array([[1, 0, 0, 0.1], [-1, -1, -1, 0], [0, 0, 0, 1], [0.5, 0.5, 0.5, 1]], dtype=np.float64))
    assert mine_negatives(words, names, 2).tolist() == [1, 2]
    assert sorted(mine_negatives(words, names, 99)) == [0, 1, 2, 3]


def test_centring_takes_off_what_all_have_in_common(random: np.random.Generator) -> None:
    cone = unit(random.normal(size=(100, 16)) + 5.0)
    assert (cone @ cone.T).min() > 0.5
    centred = Centring.fit(cone)(cone)
    np.testing.assert_allclose(np.linalg.norm(centred, axis=1), 1.0, atol=1e-5)
    assert abs(float((centred @ centred.T).mean())) < 0.02
    np.testing.assert_allclose(Centring.fit(cone, enabled=False)(cone), checked(cone), atol=1e-6)
    mean = Centring.fit(cone)
    assert np.isfinite(mean(mean.mean[None])).all()

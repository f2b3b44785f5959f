"""Detectors of trained mixtures: what they compute, their files, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protoclip.contract.errors import DataError, ModelError
from protoclip.detection.detector import Detector
from protoclip.detection.fitting_trained import fit_trained
from protoclip.detection.mixture import Mixture
from protoclip.detection.trained import Layer, TrainedMixture

DIM, HIDDEN, PROJECTED = 6, 9, 4


@pytest.fixture
def mixture() -> TrainedMixture:
    draw = np.random.default_rng(0)
    sizes = ((HIDDEN, DIM), (PROJECTED, HIDDEN))
    layers = tuple(
        Layer(draw.normal(size=size).astype(np.float32), draw.normal(size=size[0]).astype(np.float32))
        for size in sizes
    )
    prototypes = draw.normal(size=(6, PROJECTED)).astype(np.float32)
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    return TrainedMixture(layers, Mixture(prototypes, np.repeat(np.arange(2), 3), "nearest"))


def test_scores_are_cosines_behind_the_head(mixture: TrainedMixture) -> None:
    vectors = np.random.default_rng(1).normal(size=(3, DIM)).astype(np.float32)
    first, second = mixture.layers
    for vector, score, nearest in zip(
        vectors, mixture.score(vectors), mixture.nearest_class(vectors), strict=True
    ):
        hidden = np.maximum(first.weight @ vector + first.bias, 0)
        found = second.weight @ hidden + second.bias
        cosines = mixture.mixture.prototypes @ found / np.linalg.norm(found)
        assert score == pytest.approx(cosines.max(), abs=1e-6)
        assert nearest == cosines.argmax() // 3
    assert mixture.score(vectors[:0]).shape == (0,)


@pytest.mark.parametrize(("reading", "kind"), [("nearest", "palm"), ("posterior", "palm_posterior")])
def test_a_detector_outlives_its_file(mixture: TrainedMixture, tmp_path: Path, reading: str, kind: str) -> None:
    prototypes, owners = mixture.mixture.prototypes, mixture.mixture.owners
    read = TrainedMixture(mixture.layers, Mixture(prototypes, owners, reading))  # type: ignore[arg-type]
    known = np.random.default_rng(2).normal(size=(40, DIM))
    made = fit_trained(read, known, classes=("a", "b"), fingerprint="0123", model="shop_0123")
    made.save(tmp_path / "shop.detector")
    opened = Detector.open(tmp_path / "shop.detector")
    assert (opened.kind, opened.classes, opened.dim, opened.fingerprint) == (kind, ("a", "b"), DIM, "0123")
    np.testing.assert_array_equal(opened.score(known), made.score(known))
    assert (opened.score(known) >= opened.threshold.value).sum() == 39


def test_what_does_not_fit_is_refused(mixture: TrainedMixture, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="embeddings of 5 dimensions for a detector of 6"):
        fit_trained(mixture, np.ones((40, 5)), classes=("a", "b"))
    with pytest.raises(DataError, match="at position 3 is not finite"):
        fit_trained(mixture, np.vstack([np.ones((3, DIM)), [[np.nan] * DIM]]), classes=("a", "b"))
    with pytest.raises(ValueError, match="do not lead to prototypes"):
        TrainedMixture(mixture.layers[:1], mixture.mixture)
    short = TrainedMixture((Layer(mixture.layers[0].weight[:PROJECTED], mixture.layers[1].bias),), mixture.mixture)
    made = fit_trained(short, np.random.default_rng(2).normal(size=(40, DIM)), classes=("a", "b"))
    broken = TrainedMixture((Layer(short.layers[0].weight[:, :5], short.layers[0].bias),), mixture.mixture)
    Detector(made.kind, broken, made.centring, made.threshold, ("a", "b"), 0).save(tmp_path / "broken.detector")
    with pytest.raises(ModelError, match=r"broken\.detector: damaged: fit the detector again"):
        Detector.open(tmp_path / "broken.detector")

"""A detector's ONNX graph decides as the detector does in NumPy, whatever its kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

import export.graphs.detector_graph
from export.graphs.detector_graph import write_detector_graph
from export.graphs.detector_runtime import open_detector_graph
from protoclip.contract.errors import ConfigError
from protoclip.contract.reasons import pack_reasons
from protoclip.detection.detector import Detector
from protoclip.detection.fitting import fit_detector, fit_from_names
from protoclip.detection.fitting_trained import fit_trained
from protoclip.detection.kinds import FITS
from protoclip.detection.mixture import Mixture
from protoclip.detection.trained import Layer, TrainedMixture

DIM = 24
Array = NDArray[np.float32]


def pictures(count: int, seed: int) -> Array:
    """`[count, DIM]` of eight kinds in turn, of unit norm."""
    centres = np.random.default_rng(0).normal(size=(8, DIM)) + 1.0
    noise = np.random.default_rng(seed).normal(size=(count, DIM))
    found = centres[np.arange(count) % 8] + 0.5 * noise
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def fitted(kind: str) -> Detector:
    known = pictures(400, 1)
    if kind.startswith("concepts"):
        words = pictures(40, 2) if kind.endswith("words") else None
        return fit_from_names(known[:4], known, labels=list("abcd"), words=words, num_negatives=9, accept=0.6)
    if kind.startswith("palm"):
        draw = np.random.default_rng(3)
        layers = tuple(
            Layer(draw.normal(size=(out, into)).astype(np.float32), draw.normal(size=out).astype(np.float32))
            for into, out in ((DIM, 9), (9, 5))
        )
        prototypes = draw.normal(size=(6, 5)).astype(np.float32)
        prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
        mixture = Mixture(prototypes, np.arange(6), "posterior" if kind == "palm_posterior" else "nearest")
        return fit_trained(TrainedMixture(layers, mixture), known, classes=("a",), accept=0.6)
    labels = [f"kind {number % 8}" for number in range(400)]
    return fit_detector(known, labels, kind=kind.removesuffix(", centred"), accept=0.6, centre="centred" in kind)


@pytest.mark.parametrize(
    "kind",
    [*FITS, "mahalanobis, centred", "concepts", "concepts, words", "palm", "palm_posterior"],
)
def test_the_graph_decides_as_numpy_does(kind: str, tmp_path: Path) -> None:
    detector = fitted(kind)
    write_detector_graph(detector, tmp_path / "detector.onnx")
    unseen = np.concatenate([pictures(120, 4), -pictures(30, 5)])
    scores = detector.score(unseen)
    known, found = open_detector_graph(tmp_path / "detector.onnx")(unseen)
    assert (found.dtype, found.shape) == (np.float32, (150,))
    np.testing.assert_allclose(found, scores, rtol=2e-6, atol=2e-6)
    decided = scores >= detector.threshold.value
    assert 20 < decided.sum() < 130
    np.testing.assert_array_equal(known, decided)


def test_a_refused_picture_is_not_known_and_has_no_score(tmp_path: Path) -> None:
    detector = fitted("mixture")
    write_detector_graph(detector, tmp_path / "detector.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "detector.onnx", providers=["CPUExecutionProvider"])
    best = pictures(400, 1)[np.argsort(detector.score(pictures(400, 1)))[-3:]]
    feeds = {"vector": best, "reason": pack_reasons(["", "not a picture", ""])}
    embedding, error, known, score = session.run(["embedding", "error", "known", "known_score"], feeds)
    assert known.tolist() == [[True], [False], [True]]
    assert np.isnan(score).tolist() == [[False], [True], [False]]
    np.testing.assert_array_equal(embedding, feeds["vector"])
    np.testing.assert_array_equal(error, feeds["reason"])


def test_a_detector_that_is_too_large_for_a_graph_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.graphs.detector_graph, "LARGEST_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"the detector holds 0\.0 GB, and a served one .* \(--per-class\)"):
        write_detector_graph(fitted("neighbours"), tmp_path / "detector.onnx")

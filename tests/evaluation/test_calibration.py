"""Calibration, mean per class and few-shot probes: by hand, and beside scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from protoclip.encoders.model import ClipModel
from protoclip.evaluation.calibration import expected_calibration_error, top_probabilities
from protoclip.evaluation.classify import class_names, class_numbers
from protoclip.evaluation.features import TorchModel
from protoclip.evaluation.few_shot import draw_shots, fit_shots, mean_hits
from protoclip.evaluation.runner import evaluate
from protoclip.sources import Pairs


def test_the_error_is_what_confidence_and_accuracy_differ_by() -> None:
    """Bins of a fifth: {0.5, 0.55} is right once, {0.9, 0.95} twice: (|1 − 1.05| + |2 − 1.85|) / 4 = 0.05."""
    found = expected_calibration_error(np.array([0.5, 0.55, 0.9, 0.95]), np.array([1, 0, 1, 1]), num_bins=5)
    assert found == pytest.approx(0.05)
    assert expected_calibration_error(np.ones(4), np.ones(4, dtype=bool)) == 0.0
    assert expected_calibration_error(np.ones(4), np.zeros(4, dtype=bool)) == 1.0
    for confidences, hits in ((np.ones(2), np.ones(3)), (np.ones(0), np.ones(0)), (np.array([1.1]), np.ones(1))):
        with pytest.raises(ValueError, match="confidence"):
            expected_calibration_error(confidences, hits)


def test_probabilities_are_those_that_are_served() -> None:
    """Two classes of cosines 0.3 and 0.1 at a factor of 10: 1 / (1 + exp(−2)); one without texts takes no part."""
    cosines = np.array([[0.3, 0.1, np.nan]])
    assert top_probabilities(cosines, 10.0, None) == pytest.approx([1 / (1 + np.exp(-2.0))])
    assert top_probabilities(cosines, 10.0, -4.0) == pytest.approx([1 / (1 + np.exp(1.0))])


def test_every_class_gives_its_shots_or_all_it_has() -> None:
    labels = np.array([0] * 10 + [2] * 3 + [1] * 5)
    rows = draw_shots(labels, 4, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [4, 4, 3]
    assert (np.diff(rows) > 0).all()
    other = draw_shots(labels, 4, np.random.default_rng(1))
    assert rows.tolist() != other.tolist()


def test_more_shots_do_better_and_draws_are_repeatable() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(5, size=600)
    features = (np.eye(5, 20)[labels] + 0.5 * rng.normal(size=(600, 20))).astype(np.float32)
    known, unseen = slice(0, 400), slice(400, 600)
    found = {
        shots: mean_hits(fit_shots(features[known], labels[known], 5, shots), features[unseen], labels[unseen])
        for shots in (1, 16)
    }
    assert found[1].mean() > 0.25
    assert found[16].mean() > found[1].mean() + 0.1
    again = mean_hits(fit_shots(features[known], labels[known], 5, 1), features[unseen], labels[unseen])
    assert (again == found[1]).all()
    with pytest.raises(ValueError, match="2 classes"):
        fit_shots(features[:3], np.zeros(3, dtype=np.int64), 5, 1)


def test_an_evaluation_has_all_three(painted_pairs: Pairs, painted_clip: Callable[..., ClipModel]) -> None:
    splits = painted_pairs.column("split")
    train, new = (painted_pairs.select(splits == name) for name in ("train", "unseen_style"))
    model = TorchModel(painted_clip(red="blue"))
    found = evaluate(
        model, train, {"train": train, "new": new}, group_column="concept", class_columns=["kind"], few_shot=[1, 2]
    )
    scores = found.subsets["new"].classification["kind"]
    names = class_names([train, new], "kind")
    truth = class_numbers(new, "kind", names)
    images = np.stack([model.embed_pixels(np.stack([pixels_of(new, row)]))[0] for row in range(len(new))])
    texts = model.embed_tokens(model.tokenizer.encode(list(names)))
    cosines = images @ texts.T
    expected = balanced_accuracy_score(truth, cosines.argmax(axis=1))
    assert scores.mean_per_class["plain"].value == pytest.approx(expected, abs=1e-12)
    logits = 100 * cosines.astype(np.float64)
    confidences = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    hits = cosines.argmax(axis=1) == truth
    assert scores.calibration_error["plain"] == pytest.approx(
        expected_calibration_error(confidences, hits), abs=1e-6
    )
    assert list(scores.few_shot) == [1, 2]
    assert found.subsets["train"].classification["kind"].few_shot == {}


def pixels_of(pairs: Pairs, row: int) -> np.ndarray:
    from protoclip.contract.pixels import PixelSpec, load_pixels

    return load_pixels(pairs.read_image(row), PixelSpec(height=8, width=8))

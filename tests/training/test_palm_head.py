"""Heads that PALM trains on embeddings: they tell strangers, are the same again, and name what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import runner
from numpy.typing import NDArray

from protoclip import Detector
from protoclip.contract.errors import ConfigError, DataError
from protoclip.detection.measures import auroc
from protoclip.search import Index
from protoclip.training.palm_head import fit_palm_head, train_head

DIM = 12


def drawn(groups: range, count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pictures of groups around drawn centres; two groups make a class."""
    centres = np.random.default_rng(0).normal(size=(12, DIM))
    draw = np.random.default_rng(seed)
    numbers = draw.integers(groups.start, groups.stop, count)
    return (centres[numbers] + 0.4 * draw.normal(size=(count, DIM))).astype(np.float32), numbers // 2


def test_strangers_lie_far_from_all_prototypes() -> None:
    known, classes = drawn(range(6), 240, seed=1)
    detector = fit_palm_head(known, [f"kind {number}" for number in classes], per_class=2, fingerprint="0123")
    assert (detector.kind, detector.num_fit, detector.fingerprint) == ("palm", 192, "0123")
    unseen, own = drawn(range(6), 200, seed=2)
    strangers, _ = drawn(range(6, 12), 200, seed=3)
    assert auroc(detector.score(unseen), detector.score(strangers)) > 0.9
    assert (detector.scorer.nearest_class(unseen) == own).mean() > 0.9  # type: ignore[attr-defined]


def test_the_same_seed_gives_the_same_head() -> None:
    known, classes = drawn(range(4), 40, seed=1)
    first, second, other = (train_head(known, classes, 2, {}, steps=5, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.score(known), second.score(known))
    assert np.abs(first.score(known) - other.score(known)).max() > 1e-3


def test_what_does_not_fit_is_named() -> None:
    known, classes = drawn(range(4), 40, seed=1)
    for vectors, labels, error, message in (
        (known, ["one"] * 40, DataError, "palm keeps classes apart, and there is one only: give two or more"),
        (known, ["", *["one", "two"] * 19, "one"], DataError, "the label at position 0 is empty"),
        (np.vstack([known[:39], [[np.nan] * DIM]]), ["one", "two"] * 20, DataError, "position 39 is not finite"),
        (known[:8], ["one", "two"] * 4, DataError, "held out, too few to accept 95.0%"),
    ):
        with pytest.raises(error, match=message):
            fit_palm_head(vectors, labels)
    with pytest.raises(ConfigError, match=r"kind palm: palm\.per_class: .*less than or equal to 1000"):
        train_head(known, classes, 2, {"per_class": 2000}, steps=1)


def test_the_command_trains_on_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(monkeypatch, capsys)
    known, classes = drawn(range(4), 120, seed=1)
    facts = [{"kind": f"kind {number}"} for number in classes]
    with Index.create(tmp_path / "shop.index", "0123456789abcdef", DIM, model="shop_0123") as index:
        index.add(known, [f"{number}.png" for number in range(120)], [*facts[:-1], {}])
    fit = ("detect", "fit", tmp_path / "shop.index", tmp_path / "shop.detector", "--kind", "palm_posterior")
    outcome = run(*fit, "--label", "kind", "--per-class", "2")
    assert outcome.code == 0, outcome.err
    assert "left out: 1 entries without kind" in outcome.err
    detector = Detector.open(tmp_path / "shop.detector")
    assert (detector.kind, detector.classes) == ("palm_posterior", ("kind 0", "kind 1"))
    assert "--kind palm_posterior keeps classes apart: name the field" in run(*fit).err
    assert "--centre is of no use to --kind palm_posterior" in run(*fit, "--label", "kind", "--centre").err

"""`protoclip detect fit`, `score` and `evaluate` on indexes; and a detector beside the classes of a client."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from numpy.typing import NDArray

from protoclip import Client, Detector
from protoclip.client import InMemoryTransport, MemoryModel
from protoclip.contract.errors import ConfigError
from protoclip.search import Index

DIM = 16
MODEL = "0123456789abcdef"
KINDS = ("shoes", "hats", "bags")


def vectors_of(kinds: range, count: int, seed: int) -> NDArray[np.float32]:
    centres = np.random.default_rng(0).normal(size=(8, DIM))
    noise = np.random.default_rng(seed).normal(size=(count * len(kinds), DIM))
    return (np.repeat(centres[list(kinds)], count, axis=0) + 0.3 * noise).astype(np.float32)


def make_index(path: Path, vectors: NDArray[np.float32], fingerprint: str = MODEL) -> Path:
    """Entries of three kinds in turn; the last one has no kind."""
    names = [f"{number}.png" for number in range(len(vectors))]
    facts = [{"kind": KINDS[number * 3 // len(names)]} for number in range(len(names))]
    with Index.create(path, fingerprint, DIM, model="shop_0123") as index:
        index.add(vectors, names, [*facts[:-1], {}])
    return path


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Known pictures, unseen ones of the same kinds, and strangers."""
    folder = tmp_path_factory.mktemp("indexes")
    known = make_index(folder / "known.index", vectors_of(range(3), 60, 1))
    unseen = make_index(folder / "unseen.index", vectors_of(range(3), 20, 2))
    return known, unseen, make_index(folder / "strangers.index", vectors_of(range(3, 6), 20, 3))


@pytest.fixture
def detector(run: Run, indexes: tuple[Path, Path, Path], tmp_path: Path) -> Path:
    outcome = run("detect", "fit", indexes[0], tmp_path / "shop.detector", "--label", "kind")
    assert outcome.code == 0, outcome.err
    assert "left out: 1 entries without kind" in outcome.err
    assert "neighbours, from " in outcome.err
    assert "of 3 classes" in outcome.err
    return tmp_path / "shop.detector"


def test_what_is_fit_scores_others(
    run: Run, indexes: tuple[Path, Path, Path], detector: Path, tmp_path: Path
) -> None:
    outcome = run("detect", "score", detector, indexes[2])
    assert outcome.code == 0, outcome.err
    assert "60 of 60 entries are of no known kind" in outcome.err
    assert "--out scores.csv has all" in outcome.err
    assert outcome.out.count(".png") == 10
    found = run("detect", "score", detector, indexes[1], "--json").json
    assert found["unknown"] <= 9
    assert [one["score"] for one in found["scores"]] == sorted(one["score"] for one in found["scores"])
    assert run("detect", "score", detector, indexes[2], "--out", tmp_path / "scores.csv").code == 0
    with open(tmp_path / "scores.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["id", "known", "score"]
    assert {row[1] for row in rows[1:]} == {"false"}
    assert len(rows) == 61


def test_measures_have_intervals(run: Run, indexes: tuple[Path, Path, Path], detector: Path) -> None:
    outcome = run(
        "detect",
        "evaluate",
        detector,
        "--known",
        indexes[1],
        "--strangers",
        indexes[2],
        "--resamples",
        100,
        "--json",
    )
    assert outcome.code == 0, outcome.err
    (one,) = outcome.json["strangers"]
    assert one["auroc"]["low"] <= one["auroc"]["value"] <= one["auroc"]["high"]
    assert one["auroc"]["value"] > 0.99
    assert one["accepted"] == 0.0
    table = run("detect", "evaluate", detector, "--known", indexes[1], "--strangers", f"same={indexes[1]}/")
    assert "AUROC" in table.out
    assert "50.0%" in table.out
    assert "are the same: the figures say nothing" in table.err


def test_a_fit_as_json_without_classes(run: Run, indexes: tuple[Path, Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "x.detector"
    found = run(
        "detect",
        "fit",
        indexes[0],
        path,
        "--kind",
        "mahalanobis",
        "--where",
        "kind=hats",
        "--accept",
        0.9,
        "--json",
    ).json
    assert (found["kind"], found["num_classes"], found["num_fit"]) == ("mahalanobis", 0, 48)
    assert Detector.open(path).fingerprint == MODEL


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label", "colour"], "--label colour: no entry of"),
        (["--group-by", "product"], "--group-by product: no entry of"),
        (["--group-by", "kind"], "known pictures are held out, too few"),
        (["--kind", "forest"], "kind='forest' is unknown: use one of mixture,"),
        (["--accept", "0.999"], "too few to accept 99.9% of them: give at least 999"),
        (["--where", "kind=none"], "no entry fits"),
        (["--per-class", "0"], "per_class=0 is out of range"),
    ],
)
def test_what_can_not_be_fit_is_said(
    run: Run, indexes: tuple[Path, Path, Path], tmp_path: Path, options: list[str], message: str
) -> None:
    outcome = run("detect", "fit", indexes[0], tmp_path / "x.detector", *options)
    assert outcome.code == 2, outcome.err
    assert message in " ".join(outcome.err.split())
    assert not (tmp_path / "x.detector").exists()


def test_other_models_and_files_are_refused(run: Run, detector: Path, tmp_path: Path) -> None:
    other = make_index(tmp_path / "other.index", vectors_of(range(3), 5, 4), "fedcba9876543210")
    outcome = run("detect", "score", detector, other)
    assert outcome.code == 2
    assert "the detector is for embeddings by shop_0123" in " ".join(outcome.err.split())
    outcome = run("detect", "score", other, other)
    assert outcome.code == 2
    assert "protoclip detect fit" in " ".join(outcome.err.split())
    outcome = run("detect", "score", detector, other, "--out", "scores.txt")
    assert "the scores are written as CSV" in outcome.err


def client_of(fingerprint: str) -> Client:
    """Its pictures are the number of a vector, as text."""
    vectors = {b"known": vectors_of(range(3), 20, 2)[0], b"strange": vectors_of(range(3, 6), 20, 3)[0]}
    model = MemoryModel(lambda data: vectors[data], lambda text: np.ones(DIM), DIM, fingerprint=fingerprint)
    return Client(transport=InMemoryTransport(model))


def test_answers_of_a_client_say_whether_a_picture_is_known(detector: Path) -> None:
    opened = Detector.open(detector)
    with client_of(MODEL) as client:
        known, strange = client.classify([b"known", b"strange"], ["a", "b"], detector=opened)
        assert (known.known, strange.known) == (True, False)
        assert strange.known_score < opened.threshold.value < known.known_score
        assert strange.reason == opened.judge(vectors_of(range(3, 6), 20, 3)[:1])[0].reason
        plain = client.classify(b"known", ["a", "b"])
        assert (plain.known, plain.reason) == (None, "")
        assert math.isnan(plain.known_score)
    with (
        client_of("fedcba9876543210") as client,
        pytest.raises(ConfigError, match="the detector is for embeddings"),
    ):
        client.classify(b"known", ["a", "b"], detector=opened)


def test_vectors_of_an_adapter_are_told(
    run: Run, indexes: tuple[Path, Path, Path], detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "adapter" not in run("detect", "score", detector, indexes[1]).err
    iterate = Index.iterate

    def mapped(self: Index, where: object = None) -> object:
        return (replace(entry, mapped=True) for entry in iterate(self, where))  # type: ignore[arg-type]

    monkeypatch.setattr(Index, "iterate", mapped)
    assert "60 vectors are an adapter's" in run("detect", "score", detector, indexes[1]).err


def test_a_damaged_detector_is_named(run: Run, detector: Path, indexes: tuple[Path, Path, Path]) -> None:
    detector.write_bytes(detector.read_bytes()[:100])
    outcome = run("detect", "score", detector, indexes[1])
    assert outcome.code == 2
    assert json.dumps(str(detector))[1:-1].split("/")[-1] in outcome.err

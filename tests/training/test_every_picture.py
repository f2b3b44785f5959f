"""Every kind of picture as training data: the good ones train, the others are left out by name."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from every_picture import GOOD, PATTERN, write_all

from protoclip.config.load import build_config
from protoclip.contract.pixels import PixelSpec
from protoclip.data.pictures import Pictures
from protoclip.data.table import load_pairs
from protoclip.evaluation.run import evaluate_run
from protoclip.runs.files import prototype_labels
from protoclip.training.train import train


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table beside its pictures; every text is the name of a file."""
    good, bad = write_all(tmp_path / "photos")
    with (tmp_path / "photos" / "pairs.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("image", "text"), *((name, name) for name in sorted(good | bad))])
    return tmp_path / "photos"


@pytest.fixture
def config(shapes_config: dict[str, Any], folder: Path) -> dict[str, Any]:
    shapes_config["data"] = {"path": [str(folder)]}
    shapes_config["train"] |= {"batch_size": 8, "steps": 12}
    return shapes_config


def messages(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


def test_what_is_left_out_is_named(
    config: dict[str, Any], folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = sorted(path.name for path in folder.glob("bad*"))
    with caplog.at_level(logging.WARNING):
        run = train(build_config(config, "test"), tmp_path / "run", quiet=True)
    assert f"{len(bad)} rows and files are left out: " in messages(caplog)
    for name in bad:
        assert f"{folder / name}: " in messages(caplog), name
    with (tmp_path / "run" / "left_out.csv").open(newline="") as stream:
        listed = {Path(row["name"]).name: row["reason"] for row in csv.DictReader(stream)}
    assert sorted(listed) == bad
    assert all(listed.values())
    labels, _ = prototype_labels(run, "image")
    texts = [texts[0] for texts in load_pairs(build_config(config, "test").data).texts]
    assert len(labels) == len(texts)
    assert not {text for text, label in zip(texts, labels, strict=True) if label >= 0} & set(bad)
    cell = evaluate_run(run).subsets["train"]
    assert (cell.num_images, cell.num_skipped) == (len(GOOD), len(bad))


@pytest.mark.parametrize("source", ["extract", "stream"])
def test_what_is_left_out_while_training_is_named_once_and_in_no_cluster(
    config: dict[str, Any], folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, source: str
) -> None:
    """Without memory for pictures they are found broken only when their turn comes."""
    config["data"]["cache_mb"] = 0
    config["prototypes"], config["episode"]["lit_episodes"] = {"source": source}, 0
    config["train"]["steps"] = 24
    bad = {path.name for path in folder.glob("bad*")}
    with caplog.at_level(logging.WARNING):
        run = train(build_config(config, "test"), tmp_path / "run", quiet=True)
    assert f"{len(bad)} pairs were left out of their batches" in messages(caplog)
    for name in bad:
        assert messages(caplog).count(f"{folder / name}: ") == 1, name
    pairs = load_pairs(build_config(config, "test").data)
    for side in ("image", "text"):
        labels, _ = prototype_labels(run, side)
        clustered = {own[0] for own, label in zip(pairs.texts, labels, strict=True) if label >= 0}
        assert clustered
        assert not clustered & bad


def test_training_sees_what_the_server_sees(config: dict[str, Any]) -> None:
    """Turned, transparent or 16 bits deep: the pixels are those of the array that the file shows."""
    pairs = load_pairs(build_config(config, "test").data)
    pictures = Pictures(pairs, PixelSpec(*PATTERN.shape[:2]), cache_mb=0)
    rows = {texts[0]: row for row, texts in enumerate(pairs.texts)}
    kinds = dict(zip(sorted(name for name in rows if name.startswith("good")), GOOD, strict=True))
    for name, kind in kinds.items():
        shown, tolerance = GOOD[kind][1:]
        found = np.asarray(pictures.read(rows[name]).image)
        if found.shape == shown.shape:
            assert np.abs(found.astype(int) - shown).max() <= (1 if tolerance < 1e-2 else 12), kind
    shapes = [np.asarray(pictures.read(rows[name]).image).shape for name in kinds]
    assert shapes.count(PATTERN.shape) >= len(GOOD) - 2

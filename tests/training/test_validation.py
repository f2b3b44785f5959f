from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file
from tiny_training import TrainOnce

from protoclip.config.load import build_config
from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError, DataError
from protoclip.data.holdout import split_pairs
from protoclip.data.table import load_pairs
from protoclip.evaluation.run import evaluate_run
from protoclip.evaluation.scores import Evaluation
from protoclip.runs.metrics import read_metrics
from protoclip.training.loop import Trainer
from protoclip.training.train import train
from protoclip.training.validation import Best


def with_validation(values: dict[str, Any], validation: dict[str, Any], **train: Any) -> RunConfig:
    changed = {**values, "validation": validation, "train": {**values["train"], "batch_size": 9, **train}}
    return build_config(changed, "test")


def measurements(run: Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(run) if line["kind"] == "validation"]


def same(first: Path, second: Path, name: str = "model.safetensors") -> bool:
    a, b = load_file(first / name), load_file(second / name)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def best_folder(run: Path) -> Path:
    (folder,) = (run / "best").iterdir()
    return folder


def best_of(run: Path) -> int:
    step = int(json.loads((best_folder(run) / "validation.json").read_text())["step"])
    assert best_folder(run).name == f"step_{step:08d}"
    return step


def test_groups_are_on_one_side(shapes_config: dict[str, Any]) -> None:
    config = with_validation(shapes_config, {"fraction": 0.25})
    pairs = load_pairs(config.data)
    training, held = split_pairs(pairs, config)
    assert held is not None
    assert len(set(held.column("kind"))) == 3
    assert set(held.column("kind")).isdisjoint(training.column("kind"))
    assert (len(training), len(held)) == (54, 18)
    again = split_pairs(pairs, config)[1]
    assert again is not None
    assert set(again.column("kind")) == set(held.column("kind"))
    others = [
        split_pairs(pairs, with_validation(shapes_config, {"fraction": 0.25}, seed=seed))[1]
        for seed in range(1, 5)
    ]
    assert any(set(o.column("kind")) != set(held.column("kind")) for o in others if o is not None)


def test_a_split_value(shapes_config: dict[str, Any]) -> None:
    data = {**shapes_config["data"], "split_column": "colour", "train_split": "red"}
    config = with_validation({**shapes_config, "data": data}, {"split": "blue"})
    training, held = split_pairs(load_pairs(config.data), config)
    assert held is not None
    assert (set(training.column("colour")), set(held.column("colour"))) == ({"red"}, {"blue"})


@pytest.mark.parametrize(
    ("data", "validation", "message"),
    [
        ({}, {"fraction": 0.99}, r"validation\.fraction=0\.99 leaves nothing to train on"),
        ({}, {"split": "blue"}, r"validation\.split='blue' is a value of data\.split_column"),
        ({"split_column": "colour", "train_split": "red"}, {"split": "red"}, "is what is trained on"),
        ({"split_column": "colour", "train_split": "red"}, {"split": "pink"}, "no row has colour = 'pink'"),
        ({}, {"split": "blue", "fraction": 0.1}, r"validation\.fraction or validation\.split, not both"),
    ],
)
def test_a_bad_holdout_is_named(
    shapes_config: dict[str, Any], data: dict[str, str], validation: dict[str, Any], message: str
) -> None:
    values = {**shapes_config, "data": {**shapes_config["data"], **data}}

    def split() -> None:
        config = with_validation(values, validation)
        split_pairs(load_pairs(config.data), config)

    with pytest.raises((ConfigError, DataError), match=message):
        split()


def test_measuring_does_not_change_the_training(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    """On a model with BatchNorm, whose statistics would tell."""
    values = {**shapes_config, "model": {**shapes_config["model"], "name": "protoclip-mini-48"}}
    often = with_validation(values, {"fraction": 0.25, "every_steps": 1, "keep": "last"}, steps=8)
    once = with_validation(values, {"fraction": 0.25, "every_steps": 1000, "keep": "last"}, steps=8)
    runs = [train(config, tmp_path / name, quiet=True) for name, config in (("often", often), ("once", once))]
    assert [len(measurements(run)) for run in runs] == [8, 1]
    assert same(*runs)
    assert same(*runs, "heads.safetensors")


def test_the_best_step_is_kept(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    """The finished run is the best step, and measures what was measured then."""
    validation = {"fraction": 0.25, "every_steps": 3, "metric": "mean_recall"}
    config = with_validation(shapes_config, validation, steps=48)
    run = train(config, tmp_path / "run", quiet=True)
    lines = measurements(run)
    assert [line["step"] for line in lines] == list(range(3, 49, 3))
    assert len({line["value"] for line in lines}) > 1
    best = max(lines, key=lambda line: line["value"])
    assert best_of(run) == best["step"]
    assert same(run, best_folder(run))
    measured = retrieval_of(evaluate_run(run))
    for k in (1, 5, 10):
        assert measured["image_to_text"][k] == pytest.approx(best[f"image_to_text_r{k}"], abs=1e-5)
        assert measured["text_to_image"][k] == pytest.approx(best[f"text_to_image_r{k}"], abs=1e-5)


def retrieval_of(evaluation: Evaluation) -> dict[str, dict[int, float]]:
    cell = evaluation.subsets["validation"].retrieval
    return {
        "image_to_text": {k: score.value for k, score in cell.image_to_text.items()},
        "text_to_image": {k: score.value for k, score in cell.text_to_image.items()},
    }


@pytest.mark.parametrize("stop", [5, 14])
def test_a_resumed_run_measures_the_same(
    shapes_config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
    trained_once: TrainOnce,
) -> None:
    config = with_validation(shapes_config, {"fraction": 0.25, "every_steps": 2}, checkpoint_every_steps=5)
    whole = trained_once(config)
    log_step = Trainer._log_step

    def log_then_die(self: Trainer, position: Any, *rest: Any) -> None:
        log_step(self, position, *rest)
        if position.step == stop + 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_log_step", log_then_die)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "torn", quiet=True)
    monkeypatch.undo()
    torn = train(config, tmp_path / "torn", resume=True, quiet=True)
    assert same(whole, torn)
    assert best_of(whole) == best_of(torn)
    values = [[(line["step"], line["value"]) for line in measurements(run)] for run in (whole, torn)]
    assert values[0] == values[1]


def test_patience_ends_the_run(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    values = {**shapes_config, "optim": {"learning_rate": 1e-9, "warmup_steps": 0}}
    config = with_validation(values, {"fraction": 0.25, "every_steps": 2, "patience": 3}, steps=100)
    run = train(config, tmp_path / "run", quiet=True)
    assert [line["step"] for line in measurements(run)] == [2, 4, 6, 8]
    assert best_of(run) == 2
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000008"]
    before = load_file(run / "model.safetensors")
    again = load_file(train(config, run, resume=True, quiet=True) / "model.safetensors")
    assert all(torch.equal(before[name], again[name]) for name in before)
    assert len(measurements(run)) == 4


def test_an_equal_value_is_no_better() -> None:
    lines = [
        {"kind": "validation", "step": step, "value": value} for step, value in ((1, 0.5), (2, 0.5), (3, 0.6))
    ]
    assert Best.of_lines(lines[:2]) == Best(1, 0.5, misses=1)
    assert Best.of_lines(lines) == Best(3, 0.6)
    assert Best.of_lines([{"kind": "step", "step": 1}]) is None


def test_prototypes_stand_at_the_rows_of_the_data(
    shapes_config: dict[str, Any], shapes_file: Path, tmp_path: Path
) -> None:
    """A broken picture has no cluster, and the run can still be evaluated."""
    import pyarrow as pa

    rows = parquet.read_table(shapes_file).to_pylist()
    rows[5]["image"] = b"not a picture"
    path = tmp_path / "broken.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    data = {**shapes_config["data"], "path": [str(path)], "group_column": None}
    run = train(build_config({**shapes_config, "data": data}, "test"), tmp_path / "run", quiet=True)
    labels = load_file(run / "prototypes.safetensors")["labels_image"].numpy()
    assert len(labels) == 72
    assert labels[5] == -1
    assert (np.delete(labels, 5) >= 0).sum() > 40
    assert evaluate_run(run).num_train == 71

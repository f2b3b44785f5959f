"""What a resumed run may change, and what becomes of it; what it may not is named, with both values."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from tiny_training import TrainOnce, same_weights, with_changes

from protoclip.config.catalogue import known_names
from protoclip.contract.errors import ConfigError, DataError, ProtoclipError
from protoclip.runs.files import load_run_config
from protoclip.runs.metrics import read_metrics
from protoclip.training.optim import learning_rate
from protoclip.training.preview import preview_run
from protoclip.training.resume import MAY_CHANGE
from protoclip.training.session import build_session
from protoclip.training.train import train


@pytest.fixture
def values(shapes_config: dict[str, Any]) -> dict[str, Any]:
    """A run of 15 steps without LiT; its third episode of six is cut short."""
    shapes_config["train"] |= {"steps": 15, "checkpoint_every_steps": 100}
    shapes_config["episode"]["lit_episodes"] = 0
    return shapes_config


def _steps(run: Path, name: str) -> dict[int, Any]:
    return {line["step"]: line[name] for line in read_metrics(run) if line["kind"] == "step"}


def test_what_may_change_is_a_setting() -> None:
    assert set(MAY_CHANGE) <= known_names()


@pytest.mark.parametrize("source", ["extract", "stream"])
def test_a_longer_run_is_the_run_of_that_length_where_the_learning_rate_is(
    values: dict[str, Any], tmp_path: Path, source: str
) -> None:
    """In warm-up the learning rate does not depend on the length: all else must not either."""
    values |= {"prototypes": {"source": source}}
    values["optim"]["warmup_steps"] = 100
    long = with_changes(values, train={"steps": 22})
    whole = train(long, tmp_path / "whole", quiet=True)
    run = train(with_changes(values), tmp_path / "run", quiet=True)
    assert not same_weights(whole, run)
    train(long, run, resume=True, quiet=True)
    assert same_weights(whole, run)
    assert _steps(run, "episode") == _steps(whole, "episode")
    assert load_run_config(run).train.steps == 22


def test_a_longer_run_goes_on_with_the_learning_rates_of_its_new_length(
    values: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, trained_once: TrainOnce
) -> None:
    short, long = with_changes(values), with_changes(values, train={"steps": 30})
    run = shutil.copytree(trained_once(short), tmp_path / "run")
    train(long, run, resume=True, quiet=True)
    schedules = [build_session(config, lambda items, _: items).schedule for config in (short, long)]
    for step, rate in _steps(run, "lr_image").items():
        schedule = schedules[step > 15]
        config = long.optim
        assert rate == pytest.approx(learning_rate("image", step - 1, schedule, config), rel=1e-5), step
    assert f"{run}: resumed with train.steps = 30, was 15: the rest of the schedule is that of" in caplog.text
    rates = _steps(run, "lr_text")
    assert f"as in a run of that length, with {rates[16]:.3g} after {rates[15]:.3g}" in caplog.text


def test_a_finished_run_that_goes_on_is_not_finished(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_once: TrainOnce
) -> None:
    from protoclip.training.loop import Trainer

    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    train(with_changes(values), run, resume=True, quiet=True)
    assert (run / "model.safetensors").exists()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_train_on", die)
    with pytest.raises(KeyboardInterrupt):
        train(with_changes(values, train={"steps": 20}), run, resume=True, quiet=True)
    assert not (run / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("train", {"batch_size": 6}, r"train\.batch_size = 6, was 12: leave it, or train anew with another --out"),
        ("train", {"seed": 1, "num_workers": 1}, r"trained with: train\.seed = 1, was 0: leave"),
        (
            "model",
            {"name": "RN50", "lock": "image"},
            r'model\.lock = "image", was none; model\.name = "RN50", was "tin',
        ),
        ("loss", {"proto_weight": 0.5}, r"loss\.proto_weight = 0\.5, was 1\.0"),
        ("clustering", {"num_prototypes": 5}, r"clustering\.num_prototypes = 5, was 6"),
        ("validation", {"fraction": 0.5}, r"validation\.fraction = 0\.5, was 0\.0"),
        ("teacher", {"path": "t.npy"}, r'teacher\.path = "t\.npy", was none'),
        ("train", {"steps": 10}, r"train\.steps=10: the run has done 15 already: give at least as many"),
    ],
)
def test_what_may_not_change_is_named(
    values: dict[str, Any],
    tmp_path: Path,
    section: str,
    change: dict[str, Any],
    message: str,
    trained_once: TrainOnce,
) -> None:
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    other = with_changes(values, **{section: change})
    for attempt in (
        lambda: train(other, run, resume=True, quiet=True),
        lambda: preview_run(other, run, resume=True),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_lit_that_began_keeps_its_place(
    shapes_config: dict[str, Any], tmp_path: Path, trained_once: TrainOnce
) -> None:
    run = shutil.copytree(trained_once(with_changes(shapes_config)), tmp_path / "run")
    message = r"30 steps instead of 24 those of episode\.lit_episodes begin at step 24 instead of 18, but .* 24: "
    with pytest.raises(ConfigError, match=message):
        train(with_changes(shapes_config, train={"steps": 30}), run, resume=True, quiet=True)


def test_learning_rate_and_what_has_no_influence_may_change(
    values: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, trained_once: TrainOnce
) -> None:
    values["train"]["checkpoint_every_steps"] = 9
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    shutil.rmtree(run / "checkpoints/step_00000015")
    plain = shutil.copytree(run, tmp_path / "plain")
    harmless = {"num_workers": 1, "keep_checkpoints": 1, "checkpoint_every_steps": 4}
    train(with_changes(values, train=harmless, data={"cache_mb": 0}), plain, resume=True, quiet=True)
    assert same_weights(plain, trained_once(with_changes(values)))
    assert "resumed with train.num_workers = 1, was 0: without influence on what is learned" in caplog.text
    train(with_changes(values, optim={"learning_rate": 3e-4}), run, resume=True, quiet=True)
    rates, usual = _steps(run, "lr_text"), _steps(plain, "lr_text")
    assert [round(rates[step] / usual[step], 3) for step in (9, 10, 14)] == [1, 0.1, 0.1]
    assert "resumed with optim.learning_rate = 0.0003, was 0.003: from the next step on" in caplog.text


def _data(values: dict[str, Any], tmp_path: Path, rows: list[int]) -> dict[str, Any]:
    """The same shapes elsewhere, those rows of them."""
    [path] = values["data"]["path"]
    (tmp_path / "moved").mkdir(exist_ok=True)
    parquet.write_table(parquet.read_table(path).take(rows), tmp_path / "moved/pairs.parquet")
    return {"path": [str(tmp_path / "moved/pairs.parquet")]}


def test_data_may_move(values: dict[str, Any], tmp_path: Path, trained_once: TrainOnce) -> None:
    values["train"]["checkpoint_every_steps"] = 8
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    shutil.rmtree(run / "checkpoints/step_00000015")
    moved = _data(values, tmp_path, list(range(72)))
    train(with_changes(values, data=moved), run, resume=True, quiet=True)
    assert same_weights(run, trained_once(with_changes(values)))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (list(range(1, 72)), r"1 fewer: 71 pairs to train on, but the run began with 72: bring the old data back"),
        (
            [0, *range(72)],
            r"other texts or another order, or rows that were not added at the end: 73 pairs to train",
        ),
        (
            [*range(1, 72), 0],
            r"other texts or another order: 72 pairs.*model\.weights=.*step_00000015/model\.safe",
        ),
    ],
)
def test_other_rows_are_refused(
    values: dict[str, Any], tmp_path: Path, rows: list[int], told: str, trained_once: TrainOnce
) -> None:
    values["data"]["group_column"] = None
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    stored = json.loads((run / "rows.json").read_text())
    other = with_changes(values, data=_data(values, tmp_path, rows), train={"steps": 20})
    for attempt in (
        lambda: train(other, run, resume=True, quiet=True),
        lambda: preview_run(other, run, resume=True),
    ):
        with pytest.raises(DataError, match=told):
            attempt()
    assert json.loads((run / "rows.json").read_text()) == stored
    assert (run / "model.safetensors").exists()


def test_a_run_without_a_checkpoint_may_change_everything(
    values: dict[str, Any], tmp_path: Path, trained_once: TrainOnce
) -> None:
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    (run / "model.safetensors").unlink()
    other = with_changes(values, train={"batch_size": 6, "steps": 4, "seed": 3})
    train(other, run, resume=True, quiet=True)
    assert same_weights(run, trained_once(other))


def test_a_damaged_record_of_the_rows(values: dict[str, Any], tmp_path: Path, trained_once: TrainOnce) -> None:
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    (run / "rows.json").write_text('{"pairs": "many"}')
    with pytest.raises(ProtoclipError, match=r"rows\.json: can't be read: .*train anew"):
        train(with_changes(values), run, resume=True, quiet=True)

"""Checkpoints: a run that is stopped anywhere ends as one that was not."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_training import TrainOnce, same_weights, with_changes

from protoclip.contract.errors import ModelError
from protoclip.distributed.interruption import Interrupted
from protoclip.runs.metrics import read_metrics
from protoclip.training.checkpoint import last_checkpoint
from protoclip.training.train import train


@pytest.mark.parametrize(
    ("source", "stop"), [*(("extract", n) for n in (3, 9, 12, 20)), *(("stream", n) for n in (5, 6, 8, 12))]
)
def test_a_resumed_run_is_the_uninterrupted_one(
    shapes_config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    stop: int,
    trained_once: TrainOnce,
) -> None:
    """Stopped in warm-up, inside a main episode, between episodes, and in LiT; the bank half full, and full."""
    config = with_changes(
        shapes_config, train={"checkpoint_every_steps": 1}, prototypes={"source": source}, episode={"repeats": 2}
    )
    whole = trained_once(config)

    def die_after(step: int) -> None:
        from protoclip.training.loop import Trainer

        save = Trainer._save

        def save_then_die(self: Trainer, position: Any) -> None:
            save(self, position)
            if position.step == step:
                raise KeyboardInterrupt

        monkeypatch.setattr(Trainer, "_save", save_then_die)

    die_after(stop)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "torn", quiet=True)
    monkeypatch.undo()
    assert not (tmp_path / "torn" / "model.safetensors").exists()
    torn = train(config, tmp_path / "torn", resume=True, quiet=True)
    assert same_weights(whole, torn)
    steps = [line["step"] for line in read_metrics(torn) if line["kind"] == "step"]
    assert steps == list(range(1, 25))
    assert without_times(whole) == without_times(torn)


def without_times(run: Path) -> list[dict[str, Any]]:
    timed = ("seconds", "pairs_per_s", "data_wait_s")
    return [{k: v for k, v in line.items() if not k.startswith(timed)} for line in read_metrics(run)]


def test_a_signal_saves_and_ends_the_run(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    config = with_changes(shapes_config, train={"steps": 100_000, "checkpoint_every_steps": 100_000})

    def send() -> None:
        while not (tmp_path / "run" / "metrics.jsonl").exists() or not read_metrics(tmp_path / "run"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(Interrupted, match="go on with --resume") as caught:
        train(config, tmp_path / "run", quiet=True)
    sender.join()
    assert caught.value.exit_code == 143
    saved = last_checkpoint(tmp_path / "run")
    assert saved is not None
    assert json.loads((saved / "position.json").read_text())["step"] > 0


def test_old_checkpoints_are_removed(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    run = train(with_changes(shapes_config, train={"checkpoint_every_steps": 5}), tmp_path / "run", quiet=True)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_00000020", "step_00000024"]


def test_checkpoints_come_by_time_too(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    train_settings = {"checkpoint_every_minutes": 1e-9, "keep_checkpoints": 100}
    run = train(with_changes(shapes_config, train=train_settings), tmp_path / "run", quiet=True)
    assert len(list((run / "checkpoints").iterdir())) == 24


@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.safetensors", "targets.safetensors", "position.json"]
)
def test_a_torn_checkpoint_costs_no_more_than_itself(
    shapes_config: dict[str, Any],
    tmp_path: Path,
    file: str,
    caplog: pytest.LogCaptureFixture,
    trained_once: TrainOnce,
) -> None:
    config = with_changes(shapes_config, train={"checkpoint_every_steps": 7, "keep_checkpoints": 3})
    whole, torn = trained_once(config), tmp_path / "torn"
    shutil.copytree(whole, torn)
    for step in (21, 24):
        path = torn / "checkpoints" / f"step_{step:08d}" / file
        path.write_bytes(path.read_bytes()[:-9])
    (torn / "model.safetensors").unlink()
    mine = torn / "checkpoints" / "step_mine"
    mine.mkdir()
    with caplog.at_level(logging.WARNING):
        train(config, torn, resume=True, quiet=True)
    assert mine.is_dir()
    mine.rmdir()
    assert "step_00000024 is damaged: going on from the checkpoint before" in caplog.text
    assert same_weights(whole, torn)
    assert sorted(path.name for path in (torn / "checkpoints").glob("step_*")) == [
        f"step_{step:08d}" for step in (14, 21, 24)
    ]


def test_no_checkpoint_that_can_be_read(
    shapes_config: dict[str, Any], tmp_path: Path, trained_once: TrainOnce
) -> None:
    config = with_changes(shapes_config)
    run = tmp_path / "run"
    shutil.copytree(trained_once(config), run)
    saved = last_checkpoint(run)
    assert saved is not None
    (saved / "optimizer.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match=r"step_00000024: can't be resumed from: .*: train anew"):
        train(config, run, resume=True, quiet=True)
    assert last_checkpoint(run) == saved

"""Pictures found broken while training are listed once, whoever finds them, however often it is resumed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from run_ranks import run_on_ranks
from tiny_training import with_changes

from protoclip.data.table import load_pairs
from protoclip.encoders.registry import model_config
from protoclip.training.loop import Trainer
from protoclip.training.train import train

NUM_PAIRS, BATCH = 48, 8


@pytest.fixture
def values(shapes_config: dict[str, Any], shapes_file: Path, tmp_path: Path) -> dict[str, Any]:
    """One pass of six steps over 48 files, which are read when their turn comes; every fourth is no picture."""
    pairs = load_pairs(with_changes(shapes_config).data)
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = [("image", "text")]
    for row in range(NUM_PAIRS):
        name = f"{row:02}.png"
        (folder / name).write_bytes(b"\x89PNG" if row % 4 == 0 else pairs.read_image(row))
        rows.append((name, f"text {row}"))
    with (folder / "pairs.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    shapes_config["data"] = {"path": [str(folder / "pairs.csv")], "cache_mb": 0}
    shapes_config["episode"] |= {"size": NUM_PAIRS, "lit_episodes": 0, "warmup_episodes": 1}
    shapes_config["train"] |= {"batch_size": BATCH, "steps": 6, "checkpoint_every_steps": 3, "log_every_steps": 1}
    return shapes_config


def listed(run: Path) -> list[str]:
    with (run / "left_out.csv").open(newline="") as stream:
        return [Path(row["name"]).name for row in csv.DictReader(stream)]


BROKEN = [f"{row:02}.png" for row in range(0, NUM_PAIRS, 4)]


def test_a_resumed_run_lists_what_was_found_before(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one pass no pair comes again: what is forgotten at the resumption is never listed."""
    config, run = with_changes(values), tmp_path / "run"
    save = Trainer._save

    def save_then_die(self: Trainer, position: Any) -> None:
        save(self, position)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        train(config, run, quiet=True)
    monkeypatch.undo()
    found = listed(run)
    assert 0 < len(found) < len(BROKEN)
    assert set(found) < set(BROKEN)
    train(config, run, quiet=True, resume=True)
    assert listed(run) == BROKEN


def test_too_many_stop_a_run_on_any_number_of_ranks(values: dict[str, Any], tmp_path: Path) -> None:
    """Each of four ranks finds fewer than may be left out, but all together more."""
    name = values["model"]["name"]
    (tmp_path / f"{name}.json").write_text(json.dumps(model_config(name)))
    for limit, code in ((len(BROKEN) - 1, 2), (len(BROKEN), 0)):
        values["data"]["max_left_out"] = limit
        (tmp_path / "config.json").write_text(json.dumps(values))
        run = tmp_path / f"run{limit}"
        files = str(tmp_path / "config.json"), str(tmp_path / f"{name}.json"), str(run)
        run_on_ranks("train_shapes.py", 4, *files, exit_code=code)
        assert listed(run) == BROKEN

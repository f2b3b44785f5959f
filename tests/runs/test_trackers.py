"""Metrics for other programs: what is handed over, and what is said where a program is missing."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from protoclip.contract.errors import ConfigError
from protoclip.runs.trackers import write_tensorboard, write_wandb

LINES = [
    {"kind": "step", "step": 10, "stage": "warmup", "loss": 2.5, "loss_proto": None},
    {"kind": "validation", "step": 10, "mean_recall": 0.25},
    {"kind": "step", "step": 20, "stage": "main", "loss": 1.5, "loss_proto": 3.0},
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return tmp_path


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is an extra that tests don't install")
def test_tensorboard_reads_every_number(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # The second time replaces the first.
        folder = write_tensorboard(run)
    events = EventAccumulator(str(folder)).Reload()
    found = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert found == {
        "step/loss": [(10, 2.5), (20, 1.5)],
        "step/loss_proto": [(20, 3.0)],
        "validation/mean_recall": [(10, 0.25)],
    }


@pytest.mark.skipif(find_spec("tensorboard") is not None, reason="only where tensorboard is missing")
def test_a_missing_tensorboard_is_named(run: Path) -> None:
    with pytest.raises(ConfigError, match="needs the package 'tensorboard': pip install"):
        write_tensorboard(run)


@pytest.mark.skipif(find_spec("wandb") is not None, reason="only where wandb is missing")
def test_a_missing_wandb_is_named(run: Path) -> None:
    with pytest.raises(ConfigError, match="needs the package 'wandb': pip install"):
        write_wandb(run, "shop")

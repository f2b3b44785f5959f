"""A data set and a loss of one's own, put in from outside."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import COLOURS, SHAPES, draw_picture

from protoclip import Pairs, build_config, train
from protoclip.prototypes.objective import Rows
from protoclip.runs.metrics import read_metrics
from protoclip.training.towers import Projected

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own_pairs_and_loss.py"
KINDS = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES for _ in range(6)]


class Drawn(Sequence[bytes]):
    """Pictures that lie in no file: each is drawn when it is asked for."""

    def __len__(self) -> int:
        return len(KINDS)

    def __getitem__(self, row: int) -> bytes:  # type: ignore[override]
        return draw_picture(*KINDS[row].split(), seed=row)


def distance(projected: Projected, rows: Rows) -> torch.Tensor:
    """The mean squared distance between a picture and its own text."""
    return (projected.z_image - projected.z_text).square().sum(dim=1).mean()


def test_a_data_set_and_a_loss_of_ones_own(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    texts = tuple((kind,) for kind in KINDS)
    pairs = Pairs(images=Drawn(), texts=texts, columns={"kind": np.array(KINDS, dtype=object)})
    config = build_config(shapes_config | {"data": {"path": "drawn", "group_column": "kind"}}, "test")
    distances = []
    for weight in (1e-6, 8.0):
        losses = {"close": lambda projected, rows, weight=weight: weight * distance(projected, rows)}
        run = train(config, tmp_path / f"run{weight}", quiet=True, pairs=pairs, extra_losses=losses)
        last = [line for line in read_metrics(run) if line["kind"] == "step"][-1]
        assert last["loss"] == pytest.approx(last["loss_clip"] + last["loss_close"], rel=1e-4)
        distances.append(last["loss_close"] / weight)
    assert (tmp_path / "run8.0" / "model.safetensors").exists()
    assert 0 < distances[1] < 0.5 * distances[0]


def test_the_example_of_the_docs_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["own_pairs_and_loss.py", str(tmp_path / "run")])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    steps = [line for line in read_metrics(tmp_path / "run") if line["kind"] == "step"]
    assert steps[-1]["step"] == 12
    assert 0 < steps[-1]["loss_distance"] < 2
    assert (tmp_path / "run" / "prototypes.safetensors").is_file()

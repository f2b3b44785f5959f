"""Rows are added to a run on several ranks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from run_ranks import run_on_ranks
from tiny_training import draw_picture

from protoclip.contract.errors import DataError
from protoclip.encoders.registry import model_config
from protoclip.runs.metrics import read_metrics


@pytest.fixture
def files(shapes_config: dict[str, Any], shapes_file: Path, tmp_path: Path) -> dict[str, str]:
    """Paths by name: the architecture, a configuration of 15 steps of 72 pairs, and one of 33 steps of 84."""
    rows = parquet.read_table(shapes_file).to_pylist()
    for number in range(12):
        kind = ("blue disc, other", "yellow bar, other")[number % 2]
        picture = draw_picture("green", "disc", 9000 + number)
        rows.append({"image": picture, "texts": [f"{kind} {number}"], "kind": kind, "colour": "green"})
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "grown.parquet")
    values = shapes_config | {"prototypes": {"source": "stream"}}
    values["clustering"]["backend"] = "lloyd"
    values["episode"]["lit_episodes"] = 0
    values["train"] |= {"steps": 15, "checkpoint_every_steps": 13}
    values["optim"]["warmup_steps"] = 100
    grown = json.loads(json.dumps(values))
    grown["data"]["path"] = [str(tmp_path / "grown.parquet")]
    grown["train"]["steps"] = 33
    name = values["model"]["name"]
    paths = {"architecture": tmp_path / f"{name}.json", "begun": tmp_path / "b.json", "grown": tmp_path / "g.json"}
    for path, content in zip(paths.values(), (model_config(name), values, grown), strict=True):
        path.write_text(json.dumps(content))
    return {name: str(path) for name, path in paths.items()}


def go_on(files: dict[str, str], config: str, run: Path, num_ranks: int) -> None:
    run_on_ranks("train_shapes.py", num_ranks, files[config], files["architecture"], str(run))


def test_all_ranks_take_in_the_same_rows(files: dict[str, str], tmp_path: Path) -> None:
    """On as many ranks a killed run is the one that was not, bit for bit; on one it is up to rounding."""
    run, alone, torn = (tmp_path / name for name in ("run", "alone", "torn"))
    go_on(files, "begun", run, 2)
    shutil.copytree(run, alone)
    go_on(files, "grown", run, 2)
    go_on(files, "grown", alone, 1)
    plans = [json.loads((folder / "plan.json").read_text()) for folder in (run, alone)]
    assert plans == [{"order": "shuffled in sections", "sections": [[0, 72], [3, 84]]}] * 2
    ours, theirs = (
        {line["step"]: line["loss_clip"] for line in read_metrics(folder) if line["kind"] == "step"}
        for folder in (run, alone)
    )
    assert list(ours) == list(range(1, 34))
    assert ours == pytest.approx(theirs, rel=5e-3)
    shutil.copytree(run, torn)
    (torn / "model.safetensors").unlink()
    for checkpoint in (torn / "checkpoints").iterdir():
        if int(checkpoint.name.removeprefix("step_")) > 26:
            shutil.rmtree(checkpoint)
    go_on(files, "grown", torn, 2)
    assert (torn / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_ranks_that_read_other_rows_stop(files: dict[str, str], tmp_path: Path) -> None:
    """The first takes more rows in, the second has them not yet."""
    run = tmp_path / "run"
    go_on(files, "begun", run, 2)
    before = (run / "plan.json").read_bytes()
    code = DataError("").exit_code
    configs = [files["grown"], files["begun"]]
    run_on_ranks("own_data.py", 2, files["architecture"], str(run), *configs, exit_code=code)
    assert (run / "plan.json").read_bytes() == before

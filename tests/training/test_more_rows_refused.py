"""Rows that a resumed run can't take in are refused, and nothing in its folder changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from growing_data import Write, new_rows, shapes_rows
from tiny_training import TrainOnce, draw_picture, with_changes

from protoclip.contract.errors import ConfigError, DataError
from protoclip.training.preview import preview_run
from protoclip.training.train import train


def content(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda rows: [*rows[1:], *new_rows()],
            r"other texts or another order, or rows that were not added at the",
        ),
        (
            lambda rows: [*new_rows(), *rows],
            r"or rows that were not added at the end: 84 pairs to train on, but the",
        ),
        (
            lambda rows: [*rows[:-1], *new_rows()[:1], rows[-1]],
            r"not added at the end: 73 pairs .* began with 72: br",
        ),
        # The same texts: the last group's rows differ by their pictures alone.
        (
            lambda rows: [*rows[:-1], {**rows[-1], "image": draw_picture("red", "bar", 9)}, rows[-1]],
            r"other pictures",
        ),
        (lambda rows: [*rows, *new_rows(), rows[0]][3:], r"other texts or another order"),
        (lambda rows: [*rows[:6], {**rows[6], "kind": "own"}, *rows[7:], *new_rows()], r"other groups: 84 pairs"),
        (lambda rows: rows[:71], r"1 fewer: 71 pairs to train on, but the run began with 72"),
    ],
)
def test_rows_elsewhere_are_refused(
    growing: dict[str, Any],
    write_rows: Write,
    shapes_file: Path,
    tmp_path: Path,
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    told: str,
    trained_once: TrainOnce,
) -> None:
    run = shutil.copytree(trained_once(with_changes(growing)), tmp_path / "run")
    before = content(run)
    other = with_changes(growing, data=write_rows(change(shapes_rows(shapes_file))), train={"steps": 30})
    for attempt in (
        lambda: train(other, run, resume=True, quiet=True),
        lambda: preview_run(other, run, resume=True),
    ):
        with pytest.raises(DataError, match=told) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert "model.weights=" in str(caught.value)
    assert content(run) == before


def test_a_caption_more_of_a_picture_that_was_there_is_refused(
    growing: dict[str, Any], shapes_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its text is not among those that are compared."""
    lines = ["image,text,kind"]
    for number, row in enumerate(shapes_rows(shapes_file)):
        (tmp_path / f"{number}.png").write_bytes(row["image"])
        lines.append(f"{number}.png,{row['texts'][0]},{row['kind']}")
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(lines) + "\n")
    growing["data"] |= {"path": [str(table)], "text_columns": ["text"]}
    config = with_changes(growing)
    monkeypatch.setattr("protoclip.training.rows._SAMPLE", 4)
    run = train(config, tmp_path / "run", quiet=True)
    (tmp_path / "new.png").write_bytes(new_rows()[0]["image"])
    table.write_text("\n".join([*lines, "new.png,a new one,new", "7.png,another text,red square"]) + "\n")
    longer = with_changes(growing, train={"steps": 20})
    message = r"the 72 rows that there were have 7. texts instead of 7.: a row that names the picture of another"
    kinds = {row["kind"] for row in shapes_rows(shapes_file)}
    assert "green square" in kinds
    table.write_text(
        table.read_text().replace("another text,red square", "another text," + lines[8].split(",")[2])
    )
    with pytest.raises(DataError, match=message):
        train(longer, run, resume=True, quiet=True)
    table.write_text("\n".join([*lines, "new.png,a new one,new"]) + "\n")
    train(longer, run, resume=True, quiet=True)
    assert json.loads((run / "plan.json").read_text())["sections"] == [[0, 72], [3, 73]]


def test_a_run_with_a_teacher_takes_no_more_rows(
    growing: dict[str, Any], write_rows: Write, tmp_path: Path
) -> None:
    np.save(tmp_path / "teacher.npy", np.random.default_rng(0).normal(size=(72, 3)))
    growing |= {"teacher": {"path": str(tmp_path / "teacher.npy"), "num_prototypes": 5}}
    run = train(with_changes(growing), tmp_path / "run", quiet=True)
    longer = with_changes(growing, train={"steps": 30}, data=write_rows())
    with pytest.raises(
        DataError, match=r"clusters of 72 pairs, but there are 84: its features were clustered once"
    ):
        train(longer, run, resume=True, quiet=True)
    (run / "teacher_labels.safetensors").unlink()
    np.save(tmp_path / "teacher.npy", np.random.default_rng(0).normal(size=(84, 3)))
    with pytest.raises(
        DataError, match=r"12 more pairs can't join a run with teacher\.path, .*step_00000015/model\.s"
    ):
        train(longer, run, resume=True, quiet=True)


def test_a_run_with_weights_takes_no_more_rows(growing: dict[str, Any], write_rows: Write, tmp_path: Path) -> None:
    growing["data"] |= {"weights": [1.0]}
    run = train(with_changes(growing), tmp_path / "run", quiet=True)
    longer = with_changes(growing, train={"steps": 30}, data=write_rows())
    with pytest.raises(
        ConfigError, match=r"data\.weights: 84 pairs to train on instead of 72: a run with weights"
    ):
        train(longer, run, resume=True, quiet=True)


def test_a_run_that_ends_before_them_is_refused(
    growing: dict[str, Any], write_rows: Write, tmp_path: Path, trained_once: TrainOnce
) -> None:
    run = shutil.copytree(trained_once(with_changes(growing)), tmp_path / "run")
    before = content(run)
    for steps in (15, 18):
        message = (
            rf"12 more pairs would come from step 18 on, .* but the run ends at step {steps}: raise train\.steps"
        )
        with pytest.raises(ConfigError, match=message):
            train(with_changes(growing, train={"steps": steps}, data=write_rows()), run, resume=True, quiet=True)
    assert content(run) == before


def test_a_run_whose_patience_has_ended_is_refused(
    growing: dict[str, Any], write_rows: Write, tmp_path: Path, trained_once: TrainOnce
) -> None:
    growing |= {"validation": {"fraction": 0.2, "every_steps": 1, "patience": 1}}
    growing["train"] |= {"batch_size": 6, "steps": 100}
    growing["optim"]["learning_rate"] = 1e-9
    run = shutil.copytree(trained_once(with_changes(growing)), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"validation\.patience=1 has ended the run, and no added pair would be"):
        train(with_changes(growing, data=write_rows()), run, resume=True, quiet=True)
    train(with_changes(growing, data=write_rows(), validation={"patience": 5}), run, resume=True, quiet=True)
    assert len(json.loads((run / "plan.json").read_text())["sections"]) == 2

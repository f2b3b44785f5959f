"""What a run keeps of its rows when some are added: of an earlier version, damaged, or lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from growing_data import Write
from tiny_training import TrainOnce, same_weights, with_changes

from protoclip.contract.errors import DataError, ModelError, ProtoclipError
from protoclip.runs.rows import load_plan
from protoclip.training.begun import begun
from protoclip.training.train import train


def test_a_run_of_an_earlier_version_takes_no_more_rows_before_it_was_resumed(
    growing: dict[str, Any], write_rows: Write, tmp_path: Path, trained_once: TrainOnce
) -> None:
    run = shutil.copytree(trained_once(with_changes(growing)), tmp_path / "run")
    stored = json.loads((run / "rows.json").read_text())
    (run / "rows.json").write_text(json.dumps({"pairs": stored["pairs"], "digest": stored["digest"]}))
    longer = with_changes(growing, train={"steps": 30}, data=write_rows())
    message = (
        r"12 more: 84 pairs to train on, but the run began with 72, and an earlier version began it, which did"
    )
    with pytest.raises(DataError, match=message):
        train(longer, run, resume=True, quiet=True)
    train(with_changes(growing), run, resume=True, quiet=True)
    assert json.loads((run / "rows.json").read_text()) == stored
    train(longer, run, resume=True, quiet=True)
    assert len(json.loads((run / "plan.json").read_text())["sections"]) == 2


def test_a_damaged_checkpoint_is_passed_over(
    growing: dict[str, Any],
    write_rows: Write,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    trained_once: TrainOnce,
) -> None:
    """The position of the one before it counts: of episode 1 half is done."""
    growing["train"] |= {"checkpoint_every_steps": 8}
    run = shutil.copytree(trained_once(with_changes(growing)), tmp_path / "run")
    (run / "checkpoints/step_00000015/position.json").write_text("{")
    train(with_changes(growing, train={"steps": 21}, data=write_rows()), run, resume=True, quiet=True)
    assert json.loads((run / "plan.json").read_text())["sections"] == [[0, 72], [2, 84]]
    assert "is damaged: going on from the checkpoint before" in caplog.text


def test_a_damaged_record(growing: dict[str, Any], tmp_path: Path, trained_once: TrainOnce) -> None:
    run = shutil.copytree(trained_once(with_changes(growing)), tmp_path / "run")
    for name, text in (("rows.json", '{"pairs": 72, "digest": "x", "record": {"first": 3}}'), ("rows.json", "[]")):
        (run / name).write_text(text)
        with pytest.raises(ProtoclipError, match=r"rows\.json: can't be read: .*train anew"):
            train(with_changes(growing), run, resume=True, quiet=True)


def test_one_of_its_two_records_is_lost(
    growing: dict[str, Any], write_rows: Write, tmp_path: Path, trained_once: TrainOnce
) -> None:
    """Both say that it has taken rows in: the one alone would send it through other pairs."""
    grown = with_changes(growing, train={"steps": 21}, data=write_rows())
    whole = train(grown, shutil.copytree(trained_once(with_changes(growing)), tmp_path / "whole"), resume=True)
    earlier = json.loads((whole / "rows.json").read_text()) | {"record": None}
    for name, text in (("plan.json", None), ("rows.json", None), ("rows.json", json.dumps(earlier))):
        run = shutil.copytree(whole, tmp_path / "run", dirs_exist_ok=True)
        (run / name).unlink() if text is None else (run / name).write_text(text)
        with pytest.raises(ModelError, match=rf"{name}: is missing or of an earlier version: train anew"):
            train(grown, run, resume=True, quiet=True)


@pytest.mark.parametrize(
    ("order", "sections"),
    [
        ("shuffled in sections", []),
        ("shuffled", [[0, 72], [2, 84]]),
        ("shuffled in sections", [[1, 72], [2, 84]]),
        ("shuffled in sections", [[0, 72], [0, 84]]),
        ("shuffled in sections", [[0, 84], [2, 72]]),
        ("shuffled in sections", [[0, 0], [2, 72]]),
    ],
)
def test_sections_that_no_run_has(tmp_path: Path, order: str, sections: list[list[int]]) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"order": order, "sections": sections}))
    with pytest.raises(
        ModelError, match=r"plan\.json: can't be read: its sections don't follow each other: train"
    ):
        load_plan(tmp_path)


def test_killed_between_its_two_records(
    growing: dict[str, Any], write_rows: Write, tmp_path: Path, trained_once: TrainOnce
) -> None:
    """The plan is written first: a section of more pairs than the rows has not begun."""
    started = trained_once(with_changes(growing))
    longer = with_changes(growing, train={"steps": 21}, data=write_rows())
    whole = train(longer, shutil.copytree(started, tmp_path / "whole"), resume=True, quiet=True)
    run = shutil.copytree(started, tmp_path / "run")
    shutil.copy(whole / "plan.json", run / "plan.json")
    train(longer, run, resume=True, quiet=True)
    assert same_weights(run, whole)
    back = shutil.copytree(started, tmp_path / "back")
    shutil.copy(whole / "plan.json", back / "plan.json")
    train(with_changes(growing), back, resume=True, quiet=True)
    assert (back / "plan.json").read_text() == '{"order": "shuffled"}\n'
    (back / "plan.json").write_text('{"order": "shuffled in sections", "sections": [[0, 60]]}')
    with pytest.raises(ModelError, match=r"plan\.json: its sections end with 60 pairs, but the run has 72: train"):
        begun(back, with_teacher=False)

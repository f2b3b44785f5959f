"""Rows that were added beside those that are held out for validation, or were left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from growing_data import Write, new_rows, shapes_rows
from safetensors.numpy import load_file
from tiny_training import TrainOnce, with_changes

from protoclip.contract.errors import DataError
from protoclip.evaluation.run import evaluate_run, run_subsets
from protoclip.runs.rows import rows_at_first
from protoclip.training.begun import begun
from protoclip.training.session import build_session
from protoclip.training.train import train


def test_held_out_rows_stay_the_same(
    growing: dict[str, Any],
    write_rows: Write,
    shapes_file: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    trained_once: TrainOnce,
) -> None:
    growing |= {"validation": {"fraction": 0.2, "every_steps": 5}}
    growing["train"] |= {"batch_size": 6}
    first = with_changes(growing)
    run = shutil.copytree(trained_once(first), tmp_path / "run")
    train_before, held_before = run_subsets(first)[0], run_subsets(first)[1]["validation"]
    kinds = sorted(set(held_before.column("kind")))
    added = [*new_rows(), *new_rows((kinds[1],)), *new_rows((train_before.column("kind")[0],))[:1]]
    longer = with_changes(growing, train={"steps": 40}, data=write_rows([*shapes_rows(shapes_file), *added]))
    # A new run of these rows would hold out others.
    assert run_subsets(longer)[1]["validation"].texts != held_before.texts
    train(longer, run, resume=True, quiet=True)
    assert "6 rows that were added show what validation.fraction holds out: they are neither" in caplog.text
    trained, subsets = run_subsets(longer, first=rows_at_first(run))
    assert list(subsets["validation"].texts) == list(held_before.texts)
    assert len(trained) == len(train_before) + 13
    assert not set(trained.column("kind")) & set(kinds)
    stored = json.loads((run / "rows.json").read_text())
    assert stored["record"]["first"] == {"training": 72, "validation": None}
    assert (stored["pairs"], stored["record"]["num_rows"]) == (len(trained), 91)
    measured = evaluate_run(run)
    assert measured.subsets["validation"].num_images == len(held_before)
    session = build_session(longer, lambda items, _: items, None, begun(run, with_teacher=False))
    assert list(session.data.pairs.texts) == list(trained.texts)


def test_rows_added_to_the_validation_split_are_not_measured(
    growing: dict[str, Any],
    write_rows: Write,
    shapes_file: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [
        row | {"split": "val" if number % 6 == 5 else "train"}
        for number, row in enumerate(shapes_rows(shapes_file))
    ]
    growing["data"] |= {"split_column": "split"}
    growing |= {"validation": {"split": "val", "every_steps": 5}}
    growing["episode"]["warmup_episodes"] = 1
    config = with_changes(growing, data=write_rows(rows, "split"))
    run = train(config, tmp_path / "run", quiet=True)
    added = [row | {"split": "val" if number in (0, 6) else "train"} for number, row in enumerate(new_rows())]
    longer = with_changes(growing, train={"steps": 25}, data=write_rows([*rows, *added], "grown"))
    train(longer, run, resume=True, quiet=True)
    assert (
        "validation.split='val' has 2 rows that were added since the run began: it goes on validating on"
        in caplog.text
    )
    session = build_session(longer, lambda items, _: items, None, begun(run, with_teacher=False))
    assert session.data.split.held_out is not None
    assert len(session.data.split.held_out) == 12
    assert json.loads((run / "plan.json").read_text())["sections"] == [[0, 60], [3, 70]]
    for changed in (
        [*rows[:5], rows[5] | {"texts": ["other"]}, *rows[6:], *added],
        [*rows[:5], *rows[6:], *added],
    ):
        other = with_changes(growing, train={"steps": 30}, data=write_rows(changed, "changed"))
        with pytest.raises(
            DataError, match="the rows to validate on are not those that the run began with: bring"
        ):
            train(other, run, resume=True, quiet=True)


def test_pictures_that_were_left_out_stay_out(
    growing: dict[str, Any], write_rows: Write, shapes_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Kept in memory they are found at the start; later, read at their turn, the broken one would be counted."""
    rows = shapes_rows(shapes_file)
    broken = [row | {"image": b"broken"} if number == 30 else row for number, row in enumerate(rows)]
    growing["data"] |= {"max_left_out": 0.1}
    run = train(with_changes(growing, data=write_rows(broken, "broken")), tmp_path / "run", quiet=True)
    assert json.loads((run / "rows.json").read_text())["record"]["left_out"] == [30]
    late = [*new_rows(), *new_rows(("with a broken one",))[:2]]
    late[5]["image"] = b"broken too"
    for name, start, sections in (("kept", {}, [[0, 71], [3, 84]]), ("read", {"cache_mb": 0}, [[0, 71], [3, 85]])):
        own = shutil.copytree(run, tmp_path / name)
        longer = with_changes(growing, train={"steps": 26}, data=write_rows([*broken, *late]) | start)
        train(longer, own, resume=True, quiet=True)
        assert json.loads((own / "plan.json").read_text())["sections"] == sections
        labels = load_file(own / "prototypes.safetensors")["labels_image"]
        assert len(labels) == 86
        assert labels[30] == -1
    assert "row 30: could not be read when the run began, and stays left out" in caplog.text
    gone = [row | {"image": b"gone"} if number == 31 else row for number, row in enumerate(broken)]
    with pytest.raises(DataError, match=r"1 of the 71 pictures that it trains on can't be read: mend them"):
        train(
            with_changes(growing, train={"steps": 30}, data=write_rows(gone, "gone")), run, resume=True, quiet=True
        )

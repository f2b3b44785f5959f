"""A resumed run takes in rows that were added at the end of its data, from the next episode on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from command_line import runner
from growing_data import Write, new_rows, shapes_rows
from pyarrow import parquet
from safetensors.numpy import load_file
from tiny_training import TrainOnce, same_weights, with_changes

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError
from protoclip.data.feed import Feed
from protoclip.runs.metrics import read_metrics
from protoclip.training.preview import preview_run
from protoclip.training.train import train


def recorded(config: RunConfig, run: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> list[list[int]]:
    """The pairs of each batch that a run, or the rest of one, trains on; without an extraction."""
    taken: list[list[int]] = []
    take = Feed.take
    monkeypatch.setattr(
        Feed, "take", lambda feed, wanted: (taken.append(wanted.indices.tolist()), take(feed, wanted))[1]
    )
    train(config, run, quiet=True, **given)
    monkeypatch.undo()
    return taken


def losses(run: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in read_metrics(run) if line["kind"] == "step"}


def without_times(run: Path) -> list[dict[str, Any]]:
    timed = ("seconds", "pairs_per_s", "data_wait_s")
    return [{k: v for k, v in line.items() if not k.startswith(timed)} for line in read_metrics(run)]


def stopped_after(step: int, monkeypatch: pytest.MonkeyPatch, config: RunConfig, run: Path, **given: Any) -> None:
    """Trains, and dies when a step is saved."""
    from protoclip.training.loop import Trainer

    save = Trainer._save

    def save_then_die(self: Trainer, position: Any) -> None:
        save(self, position)
        if position.step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        train(config, run, quiet=True, **given)
    monkeypatch.undo()


def test_the_episode_under_way_ends_as_it_began_and_the_next_have_all_rows(
    growing: dict[str, Any],
    write_rows: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trained_once: TrainOnce,
) -> None:
    growing |= {"prototypes": {"source": "stream"}}
    growing["optim"]["warmup_steps"] = 100
    whole = train(with_changes(growing, train={"steps": 18}), tmp_path / "whole", quiet=True)
    run = shutil.copytree(trained_once(with_changes(growing)), tmp_path / "run")
    longer = with_changes(growing, train={"steps": 60}, data=write_rows())
    batches = recorded(longer, run, monkeypatch, resume=True)
    assert {step: loss for step, loss in losses(run).items() if step <= 18} == losses(whole)
    assert len(batches) == 45
    assert max(index for batch in batches[:3] for index in batch) < 72
    # Seven episodes of 72 pairs are six turns of 84.
    later = np.array(batches[3:]).reshape(7, 72)
    assert np.bincount(later.ravel()).tolist() == [6] * 84
    assert all(len(set(episode.tolist())) == 72 for episode in later[[0, 6]])
    assert json.loads((run / "plan.json").read_text()) == {
        "order": "shuffled in sections",
        "sections": [[0, 72], [3, 84]],
    }
    assert (
        "12 pairs were added: from episode 3 on, which begins after step 18, a pass goes through 84" in caplog.text
    )
    assert len(load_file(run / "prototypes.safetensors")["labels_image"]) == 84
    passes = {line["step"]: line["pass"] for line in read_metrics(run) if line["kind"] == "step"}
    assert passes[15] == 2.5
    assert passes[60] == pytest.approx(3 + 6)


@pytest.mark.parametrize(("source", "stop"), [("extract", 15), ("stream", 16), ("stream", 23), ("extract", 25)])
def test_killed_after_it_grew_it_is_the_run_that_was_not(
    growing: dict[str, Any],
    write_rows: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    stop: int,
    trained_once: TrainOnce,
) -> None:
    """Before its first step, in the old episode, in the first new one, and in the second."""
    growing |= {"prototypes": {"source": source}}
    growing["episode"]["repeats"] = 1
    begun_run = trained_once(with_changes(growing))
    longer = with_changes(growing, train={"steps": 33, "checkpoint_every_steps": 1}, data=write_rows())
    whole = train(longer, shutil.copytree(begun_run, tmp_path / "whole"), resume=True, quiet=True)
    torn = shutil.copytree(begun_run, tmp_path / "torn")
    if stop == 15:
        from protoclip.training.loop import Trainer

        monkeypatch.setattr(Trainer, "run", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(longer, torn, resume=True, quiet=True)
        monkeypatch.undo()
    else:
        stopped_after(stop, monkeypatch, longer, torn, resume=True)
    train(longer, torn, resume=True, quiet=True)
    assert same_weights(whole, torn)
    assert without_times(whole) == without_times(torn)
    files = ("plan.json", "rows.json", "prototypes.safetensors")
    assert [(whole / name).read_bytes() for name in files] == [(torn / name).read_bytes() for name in files]


def test_the_command_takes_them_in_by_the_runs_own_settings(
    growing: dict[str, Any],
    tmp_path: Path,
    shapes_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As the documentation has it: by the configuration in the run's folder."""
    table, command = tmp_path / "shapes.parquet", runner(monkeypatch, capsys)
    shutil.copy(shapes_file, table)
    growing["data"]["path"] = [str(table)]
    run = train(with_changes(growing), tmp_path / "run", quiet=True)
    parquet.write_table(pa.Table.from_pylist([*shapes_rows(shapes_file), *new_rows()]), table)
    words = ("train", run / "config.json", "--out", run, "--resume", "--quiet")
    refused = command(*words)
    assert refused.code == 2
    assert "raise train.steps" in refused.err
    assert command(*words, "--set", "train.steps=20").code == 0
    assert json.loads((run / "plan.json").read_text())["sections"] == [[0, 72], [3, 84]]


def test_rows_are_added_twice(
    growing: dict[str, Any],
    write_rows: Write,
    shapes_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained_once: TrainOnce,
) -> None:
    growing |= {"prototypes": {"source": "stream"}}
    run = shutil.copytree(trained_once(with_changes(growing)), tmp_path / "run")
    train(with_changes(growing, train={"steps": 24}, data=write_rows()), run, resume=True, quiet=True)
    more = write_rows([*shapes_rows(shapes_file), *new_rows(), *new_rows(("a kind before all",))], "more")
    # Step 24 is the end of episode 3: nothing of episode 4 has begun.
    third = with_changes(growing, train={"steps": 54, "checkpoint_every_steps": 1}, data=more)
    torn = shutil.copytree(run, tmp_path / "torn")
    batches = recorded(third, run, monkeypatch, resume=True)
    assert json.loads((run / "plan.json").read_text())["sections"] == [[0, 72], [3, 84], [4, 90]]
    # Five episodes of 72 pairs are four turns of 90.
    assert np.bincount(np.array(batches).ravel()).tolist() == [4] * 90
    stopped_after(29, monkeypatch, third, torn, resume=True)
    train(third, torn, resume=True, quiet=True)
    assert same_weights(run, torn)


def test_nothing_changes_without_more_rows(
    growing: dict[str, Any], write_rows: Write, shapes_file: Path, tmp_path: Path, trained_once: TrainOnce
) -> None:
    growing["train"] |= {"checkpoint_every_steps": 8}
    whole = trained_once(with_changes(growing))
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "checkpoints/step_00000015")
    train(with_changes(growing, data=write_rows(shapes_rows(shapes_file))), run, resume=True, quiet=True)
    assert same_weights(run, whole)
    for name in ("plan.json", "rows.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert (run / "plan.json").read_text() == '{"order": "shuffled"}\n'


def test_passes_go_through_the_rows_that_there_are(
    growing: dict[str, Any], write_rows: Write, tmp_path: Path, trained_once: TrainOnce
) -> None:
    """2.5 passes of 72 pairs end at step 15; the rest of five, after step 18, are two of 84."""
    del growing["train"]["steps"]
    run = shutil.copytree(trained_once(with_changes(growing, train={"passes": 2.5})), tmp_path / "run")
    assert max(losses(run)) == 15
    longer = with_changes(growing, train={"passes": 5}, data=write_rows())
    assert preview_run(longer, run, resume=True).steps == 32
    train(longer, run, resume=True, quiet=True)
    assert max(losses(run)) == 32
    assert read_metrics(run)[-1]["pass"] == pytest.approx(5)
    more = write_rows([*parquet.read_table(tmp_path / "grown.parquet").to_pylist(), *new_rows(("x",))], "more")
    with pytest.raises(ConfigError, match=r"would come from step 36 on, .* at step 32: raise train\.passes"):
        train(with_changes(growing, train={"passes": 5}, data=more), run, resume=True, quiet=True)

"""A resumed run takes in rows that were added at the end of its data, from the next episode on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from command_line import runner
from pyarrow import parquet
from safetensors.numpy import load_file
from tiny_training import COLOURS, SHAPES, TrainOnce, draw_picture, same_weights, with_changes

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError, DataError, ModelError, ProtoclipError
from protoclip.data.feed import Feed
from protoclip.evaluation.run import evaluate_run, run_subsets
from protoclip.runs.metrics import read_metrics
from protoclip.runs.rows import load_plan, rows_at_first
from protoclip.training.begun import begun
from protoclip.training.preview import preview_run
from protoclip.training.session import build_session
from protoclip.training.train import train

Write = Callable[..., dict[str, Any]]


@pytest.fixture
def values(shapes_config: dict[str, Any]) -> dict[str, Any]:
    """15 steps of 12 pairs without LiT: two episodes of six steps, and half of the third."""
    shapes_config["train"] |= {"steps": 15, "checkpoint_every_steps": 100}
    shapes_config["episode"]["lit_episodes"] = 0
    return shapes_config


@pytest.fixture
def write(shapes_file: Path, tmp_path: Path) -> Write:
    """`write(rows)`: settings of data with these rows; by default those of the run and 12 of two new groups."""

    def data(rows: list[dict[str, Any]] | None = None, name: str = "grown") -> dict[str, Any]:
        path = tmp_path / f"{name}.parquet"
        given = [*shapes_rows(shapes_file), *new_rows()] if rows is None else rows
        parquet.write_table(pa.Table.from_pylist(given), path)
        return {"path": [str(path)]}

    return data


def shapes_rows(file: Path) -> list[dict[str, Any]]:
    return parquet.read_table(file).to_pylist()  # type: ignore[no-any-return]


def new_rows(kinds: tuple[str, ...] = ("blue disc, other", "yellow bar, other")) -> list[dict[str, Any]]:
    """Six of each kind; sorted, kinds stand between those that there are."""
    places = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    return [
        {
            "image": draw_picture(*place, 5000 + 100 * number + seed),
            "texts": [f"another {kind} {seed}"],
            "kind": kind,
            "colour": place[0],
        }
        for number, (kind, place) in enumerate(zip(kinds, places[: len(kinds)], strict=True))
        for seed in range(6)
    ]


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


def content(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


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
    values: dict[str, Any],
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trained_once: TrainOnce,
) -> None:
    values |= {"prototypes": {"source": "stream"}}
    values["optim"]["warmup_steps"] = 100
    whole = train(with_changes(values, train={"steps": 18}), tmp_path / "whole", quiet=True)
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    longer = with_changes(values, train={"steps": 60}, data=write())
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
    values: dict[str, Any],
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    stop: int,
    trained_once: TrainOnce,
) -> None:
    """Before its first step, in the old episode, in the first new one, and in the second."""
    values |= {"prototypes": {"source": source}}
    values["episode"]["repeats"] = 1
    begun_run = trained_once(with_changes(values))
    longer = with_changes(values, train={"steps": 33, "checkpoint_every_steps": 1}, data=write())
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
    values: dict[str, Any],
    tmp_path: Path,
    shapes_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As the documentation has it: by the configuration in the run's folder."""
    table, command = tmp_path / "shapes.parquet", runner(monkeypatch, capsys)
    shutil.copy(shapes_file, table)
    values["data"]["path"] = [str(table)]
    run = train(with_changes(values), tmp_path / "run", quiet=True)
    parquet.write_table(pa.Table.from_pylist([*shapes_rows(shapes_file), *new_rows()]), table)
    words = ("train", run / "config.json", "--out", run, "--resume", "--quiet")
    refused = command(*words)
    assert refused.code == 2
    assert "raise train.steps" in refused.err
    assert command(*words, "--set", "train.steps=20").code == 0
    assert json.loads((run / "plan.json").read_text())["sections"] == [[0, 72], [3, 84]]


def test_rows_are_added_twice(
    values: dict[str, Any],
    write: Write,
    shapes_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained_once: TrainOnce,
) -> None:
    values |= {"prototypes": {"source": "stream"}}
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    train(with_changes(values, train={"steps": 24}, data=write()), run, resume=True, quiet=True)
    more = write([*shapes_rows(shapes_file), *new_rows(), *new_rows(("a kind before all",))], "more")
    # Step 24 is the end of episode 3: nothing of episode 4 has begun.
    third = with_changes(values, train={"steps": 54, "checkpoint_every_steps": 1}, data=more)
    torn = shutil.copytree(run, tmp_path / "torn")
    batches = recorded(third, run, monkeypatch, resume=True)
    assert json.loads((run / "plan.json").read_text())["sections"] == [[0, 72], [3, 84], [4, 90]]
    # Five episodes of 72 pairs are four turns of 90.
    assert np.bincount(np.array(batches).ravel()).tolist() == [4] * 90
    stopped_after(29, monkeypatch, third, torn, resume=True)
    train(third, torn, resume=True, quiet=True)
    assert same_weights(run, torn)


def test_nothing_changes_without_more_rows(
    values: dict[str, Any], write: Write, shapes_file: Path, tmp_path: Path, trained_once: TrainOnce
) -> None:
    values["train"] |= {"checkpoint_every_steps": 8}
    whole = trained_once(with_changes(values))
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "checkpoints/step_00000015")
    train(with_changes(values, data=write(shapes_rows(shapes_file))), run, resume=True, quiet=True)
    assert same_weights(run, whole)
    for name in ("plan.json", "rows.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert (run / "plan.json").read_text() == '{"order": "shuffled"}\n'


def test_killed_between_its_two_records(
    values: dict[str, Any], write: Write, tmp_path: Path, trained_once: TrainOnce
) -> None:
    """The plan is written first: a section of more pairs than the rows has not begun."""
    started = trained_once(with_changes(values))
    longer = with_changes(values, train={"steps": 21}, data=write())
    whole = train(longer, shutil.copytree(started, tmp_path / "whole"), resume=True, quiet=True)
    run = shutil.copytree(started, tmp_path / "run")
    shutil.copy(whole / "plan.json", run / "plan.json")
    train(longer, run, resume=True, quiet=True)
    assert same_weights(run, whole)
    back = shutil.copytree(started, tmp_path / "back")
    shutil.copy(whole / "plan.json", back / "plan.json")
    train(with_changes(values), back, resume=True, quiet=True)
    assert (back / "plan.json").read_text() == '{"order": "shuffled"}\n'
    (back / "plan.json").write_text('{"order": "shuffled in sections", "sections": [[0, 60]]}')
    with pytest.raises(ModelError, match=r"plan\.json: its sections end with 60 pairs, but the run has 72: train"):
        begun(back, with_teacher=False)


def test_passes_go_through_the_rows_that_there_are(
    values: dict[str, Any], write: Write, tmp_path: Path, trained_once: TrainOnce
) -> None:
    """2.5 passes of 72 pairs end at step 15; the rest of five, after step 18, are two of 84."""
    del values["train"]["steps"]
    run = shutil.copytree(trained_once(with_changes(values, train={"passes": 2.5})), tmp_path / "run")
    assert max(losses(run)) == 15
    longer = with_changes(values, train={"passes": 5}, data=write())
    assert preview_run(longer, run, resume=True).steps == 32
    train(longer, run, resume=True, quiet=True)
    assert max(losses(run)) == 32
    assert read_metrics(run)[-1]["pass"] == pytest.approx(5)
    more = write([*parquet.read_table(tmp_path / "grown.parquet").to_pylist(), *new_rows(("x",))], "more")
    with pytest.raises(ConfigError, match=r"would come from step 36 on, .* at step 32: raise train\.passes"):
        train(with_changes(values, train={"passes": 5}, data=more), run, resume=True, quiet=True)


def test_held_out_rows_stay_the_same(
    values: dict[str, Any],
    write: Write,
    shapes_file: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    trained_once: TrainOnce,
) -> None:
    values |= {"validation": {"fraction": 0.2, "every_steps": 5}}
    values["train"] |= {"batch_size": 6}
    first = with_changes(values)
    run = shutil.copytree(trained_once(first), tmp_path / "run")
    train_before, held_before = run_subsets(first)[0], run_subsets(first)[1]["validation"]
    kinds = sorted(set(held_before.column("kind")))
    added = [*new_rows(), *new_rows((kinds[1],)), *new_rows((train_before.column("kind")[0],))[:1]]
    longer = with_changes(values, train={"steps": 40}, data=write([*shapes_rows(shapes_file), *added]))
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
    values: dict[str, Any],
    write: Write,
    shapes_file: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [
        row | {"split": "val" if number % 6 == 5 else "train"}
        for number, row in enumerate(shapes_rows(shapes_file))
    ]
    values["data"] |= {"split_column": "split"}
    values |= {"validation": {"split": "val", "every_steps": 5}}
    values["episode"]["warmup_episodes"] = 1
    config = with_changes(values, data=write(rows, "split"))
    run = train(config, tmp_path / "run", quiet=True)
    added = [row | {"split": "val" if number in (0, 6) else "train"} for number, row in enumerate(new_rows())]
    longer = with_changes(values, train={"steps": 25}, data=write([*rows, *added], "grown"))
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
        other = with_changes(values, train={"steps": 30}, data=write(changed, "changed"))
        with pytest.raises(
            DataError, match="the rows to validate on are not those that the run began with: bring"
        ):
            train(other, run, resume=True, quiet=True)


def test_pictures_that_were_left_out_stay_out(
    values: dict[str, Any], write: Write, shapes_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Kept in memory they are found at the start; later, read at their turn, the broken one would be counted."""
    rows = shapes_rows(shapes_file)
    broken = [row | {"image": b"broken"} if number == 30 else row for number, row in enumerate(rows)]
    values["data"] |= {"max_left_out": 0.1}
    run = train(with_changes(values, data=write(broken, "broken")), tmp_path / "run", quiet=True)
    assert json.loads((run / "rows.json").read_text())["record"]["left_out"] == [30]
    late = [*new_rows(), *new_rows(("with a broken one",))[:2]]
    late[5]["image"] = b"broken too"
    for name, start, sections in (("kept", {}, [[0, 71], [3, 84]]), ("read", {"cache_mb": 0}, [[0, 71], [3, 85]])):
        own = shutil.copytree(run, tmp_path / name)
        longer = with_changes(values, train={"steps": 26}, data=write([*broken, *late]) | start)
        train(longer, own, resume=True, quiet=True)
        assert json.loads((own / "plan.json").read_text())["sections"] == sections
        labels = load_file(own / "prototypes.safetensors")["labels_image"]
        assert len(labels) == 86
        assert labels[30] == -1
    assert "row 30: could not be read when the run began, and stays left out" in caplog.text
    gone = [row | {"image": b"gone"} if number == 31 else row for number, row in enumerate(broken)]
    with pytest.raises(DataError, match=r"1 of the 71 pictures that it trains on can't be read: mend them"):
        train(with_changes(values, train={"steps": 30}, data=write(gone, "gone")), run, resume=True, quiet=True)


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
    values: dict[str, Any],
    write: Write,
    shapes_file: Path,
    tmp_path: Path,
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    told: str,
    trained_once: TrainOnce,
) -> None:
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    before = content(run)
    other = with_changes(values, data=write(change(shapes_rows(shapes_file))), train={"steps": 30})
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
    values: dict[str, Any], shapes_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its text is not among those that are compared."""
    lines = ["image,text,kind"]
    for number, row in enumerate(shapes_rows(shapes_file)):
        (tmp_path / f"{number}.png").write_bytes(row["image"])
        lines.append(f"{number}.png,{row['texts'][0]},{row['kind']}")
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(lines) + "\n")
    values["data"] |= {"path": [str(table)], "text_columns": ["text"]}
    config = with_changes(values)
    monkeypatch.setattr("protoclip.training.rows._SAMPLE", 4)
    run = train(config, tmp_path / "run", quiet=True)
    (tmp_path / "new.png").write_bytes(new_rows()[0]["image"])
    table.write_text("\n".join([*lines, "new.png,a new one,new", "7.png,another text,red square"]) + "\n")
    longer = with_changes(values, train={"steps": 20})
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


def test_a_run_with_a_teacher_takes_no_more_rows(values: dict[str, Any], write: Write, tmp_path: Path) -> None:
    np.save(tmp_path / "teacher.npy", np.random.default_rng(0).normal(size=(72, 3)))
    values |= {"teacher": {"path": str(tmp_path / "teacher.npy"), "num_prototypes": 5}}
    run = train(with_changes(values), tmp_path / "run", quiet=True)
    longer = with_changes(values, train={"steps": 30}, data=write())
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


def test_a_run_with_weights_takes_no_more_rows(values: dict[str, Any], write: Write, tmp_path: Path) -> None:
    values["data"] |= {"weights": [1.0]}
    run = train(with_changes(values), tmp_path / "run", quiet=True)
    longer = with_changes(values, train={"steps": 30}, data=write())
    with pytest.raises(
        ConfigError, match=r"data\.weights: 84 pairs to train on instead of 72: a run with weights"
    ):
        train(longer, run, resume=True, quiet=True)


def test_a_run_that_ends_before_them_is_refused(
    values: dict[str, Any], write: Write, tmp_path: Path, trained_once: TrainOnce
) -> None:
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    before = content(run)
    for steps in (15, 18):
        message = (
            rf"12 more pairs would come from step 18 on, .* but the run ends at step {steps}: raise train\.steps"
        )
        with pytest.raises(ConfigError, match=message):
            train(with_changes(values, train={"steps": steps}, data=write()), run, resume=True, quiet=True)
    assert content(run) == before


def test_a_run_whose_patience_has_ended_is_refused(
    values: dict[str, Any], write: Write, tmp_path: Path, trained_once: TrainOnce
) -> None:
    values |= {"validation": {"fraction": 0.2, "every_steps": 1, "patience": 1}}
    values["train"] |= {"batch_size": 6, "steps": 100}
    values["optim"]["learning_rate"] = 1e-9
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"validation\.patience=1 has ended the run, and no added pair would be"):
        train(with_changes(values, data=write()), run, resume=True, quiet=True)
    train(with_changes(values, data=write(), validation={"patience": 5}), run, resume=True, quiet=True)
    assert len(json.loads((run / "plan.json").read_text())["sections"]) == 2


def test_a_run_of_an_earlier_version_takes_no_more_rows_before_it_was_resumed(
    values: dict[str, Any], write: Write, tmp_path: Path, trained_once: TrainOnce
) -> None:
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    stored = json.loads((run / "rows.json").read_text())
    (run / "rows.json").write_text(json.dumps({"pairs": stored["pairs"], "digest": stored["digest"]}))
    longer = with_changes(values, train={"steps": 30}, data=write())
    message = (
        r"12 more: 84 pairs to train on, but the run began with 72, and an earlier version began it, which did"
    )
    with pytest.raises(DataError, match=message):
        train(longer, run, resume=True, quiet=True)
    train(with_changes(values), run, resume=True, quiet=True)
    assert json.loads((run / "rows.json").read_text()) == stored
    train(longer, run, resume=True, quiet=True)
    assert len(json.loads((run / "plan.json").read_text())["sections"]) == 2


def test_a_damaged_checkpoint_is_passed_over(
    values: dict[str, Any], write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture, trained_once: TrainOnce
) -> None:
    """The position of the one before it counts: of episode 1 half is done."""
    values["train"] |= {"checkpoint_every_steps": 8}
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    (run / "checkpoints/step_00000015/position.json").write_text("{")
    train(with_changes(values, train={"steps": 21}, data=write()), run, resume=True, quiet=True)
    assert json.loads((run / "plan.json").read_text())["sections"] == [[0, 72], [2, 84]]
    assert "is damaged: going on from the checkpoint before" in caplog.text


def test_a_damaged_record(values: dict[str, Any], tmp_path: Path, trained_once: TrainOnce) -> None:
    run = shutil.copytree(trained_once(with_changes(values)), tmp_path / "run")
    for name, text in (("rows.json", '{"pairs": 72, "digest": "x", "record": {"first": 3}}'), ("rows.json", "[]")):
        (run / name).write_text(text)
        with pytest.raises(ProtoclipError, match=r"rows\.json: can't be read: .*train anew"):
            train(with_changes(values), run, resume=True, quiet=True)


def test_one_of_its_two_records_is_lost(
    values: dict[str, Any], write: Write, tmp_path: Path, trained_once: TrainOnce
) -> None:
    """Both say that it has taken rows in: the one alone would send it through other pairs."""
    grown = with_changes(values, train={"steps": 21}, data=write())
    whole = train(grown, shutil.copytree(trained_once(with_changes(values)), tmp_path / "whole"), resume=True)
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

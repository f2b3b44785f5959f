"""`protoclip train --dry-run`: what it says must be what training then does, and it leaves no trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from protoclip.cli import app
from protoclip.config.load import build_config
from protoclip.contract.errors import ConfigError, DataError
from protoclip.runs.metrics import read_metrics
from protoclip.training.optim import Schedule
from protoclip.training.preview import StageSpan, preview_run, stage_spans
from protoclip.training.session import build_session
from protoclip.training.train import train


@pytest.fixture
def config_file(shapes_config: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "shapes.json"
    path.write_text(json.dumps(shapes_config))
    return path


def _tree(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def _plan(config_file: Path, *arguments: str) -> None:
    run = config_file.parent / "run"
    app(["train", str(config_file), "--out", str(run), "--dry-run", *arguments], standalone_mode=False)


def test_the_numbers_of_the_shapes(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    found = preview_run(build_config(shapes_config, "test"), tmp_path / "run")
    assert (found.data.pairs, found.data.texts) == (72, 144)
    assert (found.data.groups, found.data.largest_group) == (12, 6)
    assert (found.data.sampled, found.data.unreadable) == (72, ())
    assert found.data.pixel_bytes == 72 * 24 * 24 * 3
    assert found.memory_bytes["decoded pictures"] == found.data.pixel_bytes
    assert found.memory_bytes["optimizer"] == 2 * found.memory_bytes["parameters"] > 0
    assert (found.episode_size, found.batch_size, found.batches_per_episode) == (72, 12, 6)
    assert (found.prototypes, found.teacher_prototypes, found.steps) == (6, None, 24)
    assert found.validations is None
    assert found.pictures_kept
    assert found.objections == ()


@pytest.mark.parametrize("lock", [None, "text"])
def test_training_does_what_the_plan_says(shapes_config: dict[str, Any], tmp_path: Path, lock: str | None) -> None:
    shapes_config["model"]["lock"] = lock
    shapes_config["episode"]["lit_episodes"] = 0 if lock else 1
    shapes_config["train"] |= {"checkpoint_every_steps": 6, "keep_checkpoints": 2}
    config, run = build_config(shapes_config, "test"), tmp_path / "run"
    found = preview_run(config, run)
    train(config, run, quiet=True)
    stages = [line["stage"] for line in read_metrics(run) if line["kind"] == "step"]
    assert stages == [span.stage for span in found.stages for _ in range(span.steps)]
    planned = {file.name: file.bytes for file in found.files}
    assert all((run / name).exists() for name in planned)
    for name in ("model.safetensors", "heads.safetensors", "prototypes.safetensors"):
        header = (run / name).stat().st_size - (planned[name] or 0)
        assert 0 < header < 8192
    kept = sum(file.stat().st_size for file in (run / "checkpoints").rglob("*") if file.is_file())
    assert planned["checkpoints/"] == pytest.approx(1.5 * kept, rel=0.1)


def test_validation_is_part_of_the_plan(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    shapes_config["validation"] = {"fraction": 0.25, "every_steps": 10}
    shapes_config["train"]["batch_size"] = 9
    config, run = build_config(shapes_config, "test"), tmp_path / "run"
    found = preview_run(config, run)
    train(config, run, quiet=True)
    measured = [line for line in read_metrics(run) if line["kind"] == "validation"]
    assert found.validations == len(measured) == 3
    best = sum(file.stat().st_size for file in (run / "best").rglob("*"))
    assert {file.name: file.bytes for file in found.files}["best/"] == pytest.approx(best, rel=0.1)


def test_the_last_stage_may_be_cut_short() -> None:
    spans = list(stage_spans(Schedule(num_steps=10, steps_per_episode=4, warmup_episodes=1, lit_episodes=1)))
    assert spans == [StageSpan("warmup", 0, 4, 1), StageSpan("main", 4, 4, 1), StageSpan("lit", 8, 2, 1)]
    assert list(stage_spans(Schedule(3, 4, 1, 0))) == [StageSpan("warmup", 0, 3, 1)]


def test_nothing_is_written(
    config_file: Path, shapes_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = _tree(tmp_path), _tree(shapes_file.parent)
    _plan(config_file)
    assert (_tree(tmp_path), _tree(shapes_file.parent)) == before


def test_the_plan_as_json_and_as_a_table(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _plan(config_file, "--json")
    facts = json.loads(capsys.readouterr().out)
    assert facts["stages"][0] == {"stage": "warmup", "first_step": 0, "steps": 6, "episodes": 1}
    assert facts["resume_from"] is None
    _plan(config_file)
    shown = capsys.readouterr()
    assert "72 pairs with 144 texts" in shown.out
    assert "12 groups, the largest of 6" in shown.out
    assert "nothing was written" in shown.err


@pytest.mark.parametrize(("cache_mb", "kept"), [(0, False), (1, False), (2, True)])
def test_pictures_that_do_not_fit_are_not_counted_as_memory(
    shapes_config: dict[str, Any], tmp_path: Path, cache_mb: int, kept: bool
) -> None:
    """Counted as they are kept: at an eighth of their size, which is enough for the model's 16 px."""
    pixel_bytes = 24 * 200 * 100 * 3
    for number in range(24):
        Image.new("RGB", (1600, 800), (10 * number, 0, 0)).save(tmp_path / f"{number}.png")
    lines = [json.dumps({"image": f"{number}.png", "text": f"box {number}"}) for number in range(24)]
    (tmp_path / "boxes.jsonl").write_text("\n".join(lines))
    shapes_config["data"] = {"path": [str(tmp_path / "boxes.jsonl")], "cache_mb": cache_mb}
    found = preview_run(build_config(shapes_config, "test"), tmp_path / "run")
    assert found.data.pixel_bytes == pixel_bytes
    assert found.pictures_kept is kept
    assert found.memory_bytes["decoded pictures"] == (pixel_bytes if kept else 0)


def test_broken_pictures_are_named(shapes_config: dict[str, Any], shapes_file: Path, tmp_path: Path) -> None:
    rows = parquet.read_table(shapes_file).to_pylist()
    rows[5]["image"] = b"not a picture"
    data = tmp_path / "data.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), data)
    shapes_config["data"]["path"] = [str(data)]
    config = build_config(shapes_config, "test")
    [bad] = preview_run(config, tmp_path / "run").data.unreadable
    assert bad.row == 5
    assert bad.reason
    parquet.write_table(pa.Table.from_pylist([row | {"image": b"not a picture"} for row in rows]), data)
    [objection] = preview_run(config, tmp_path / "run").objections
    assert objection.startswith("data.path: none of the 72 pictures that were tried can be read; the first: ")
    with pytest.raises(DataError, match="none of the 72 pictures can be read"):
        build_session(config, lambda items, total: items)


def test_a_broken_file_is_named(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    for number in range(24):
        Image.new("RGB", (20, 20), (10 * number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "7.png").write_bytes(b"junk")
    lines = [json.dumps({"image": f"{number}.png", "text": f"disc {number}"}) for number in range(24)]
    lines[9] = json.dumps({"image": "gone.png", "text": "disc 9"})
    (tmp_path / "discs.jsonl").write_text("\n".join(lines))
    shapes_config["data"] = {"path": [str(tmp_path / "discs.jsonl")]}
    broken, gone = preview_run(build_config(shapes_config, "test"), tmp_path / "run").data.unreadable
    assert (broken.row, gone.row) == (7, 9)
    assert broken.reason.startswith(f"{tmp_path / '7.png'}: ")
    assert gone.reason.startswith(f"{tmp_path / 'gone.png'}: ")


def test_it_refuses_what_training_refuses(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds a run already"):
        preview_run(build_config(shapes_config, "test"), tmp_path / "run")
    shapes_config["train"]["batch_size"] = 100
    with pytest.raises(ConfigError, match=r"train\.batch_size=100"):
        preview_run(build_config(shapes_config, "test"), tmp_path / "other")


def test_too_little_memory_or_disk_is_an_error_after_the_plan(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("protoclip.training.preview.available_bytes", lambda device: 2**20)
    with pytest.raises(ConfigError, match=r"needs .* GiB of memory .* lower data.cache_mb") as caught:
        _plan(config_file)
    assert caught.value.exit_code == 2
    assert "72 pairs" in capsys.readouterr().out
    monkeypatch.setattr("protoclip.training.preview.available_bytes", lambda device: None)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(ConfigError, match=r"writes .* lower train.keep_checkpoints"):
        _plan(config_file)


def test_training_ends_in_a_line_for_scripts_and_can_be_previewed_again(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = config_file.parent / "run"
    arguments = ["train", str(config_file), "--out", str(run), "--quiet", "--json"]
    app(arguments, standalone_mode=False)
    [line] = capsys.readouterr().out.splitlines()
    facts = json.loads(line)
    assert (facts["run"], facts["step"]) == (str(run), 24)
    assert facts["report"] == str(run / "report.html")
    assert "of 24 steps" in (run / "report.html").read_text(encoding="utf-8")
    assert facts["loss"] > 0
    _plan(config_file, "--json", "--resume")
    assert json.loads(capsys.readouterr().out)["resume_from"].startswith(str(run / "checkpoints"))

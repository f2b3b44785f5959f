"""`protoclip report` on a run that was trained here: finished, unfinished, and without its data."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_training import TrainOnce, with_changes
from typer.testing import CliRunner

from protoclip.cli import app
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.evaluation.run import evaluate_run
from protoclip.run_report.page import write_run_report
from protoclip.run_report.watching import watch_run


@pytest.fixture
def run(shapes_config: dict[str, Any], trained_once: TrainOnce, tmp_path: Path) -> Path:
    """A finished run with validation, checkpoints and prototypes; a copy."""
    config = with_changes(
        shapes_config,
        validation={"fraction": 0.25, "every_steps": 6, "keep": "last"},
        train={"checkpoint_every_steps": 12, "batch_size": 9},
        evaluation={"class_columns": ["colour"]},
    )
    return Path(shutil.copytree(trained_once(config), tmp_path / "shapes"))


def page_of(run: Path, **options: Any) -> str:
    return write_run_report(run, **options).read_text(encoding="utf-8")


def headings(page: str) -> list[str]:
    return re.findall(r'<h2 id="([a-z-]+)"', page)


def test_a_finished_run_has_every_part_and_needs_nothing_from_outside(run: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["report", str(run), "--json"])
    assert result.exit_code == 0, result.output
    path = Path(json.loads(result.stdout)["report"])
    page = path.read_text(encoding="utf-8")
    assert path == run / "report.html"
    assert headings(page) == [
        "training", "evaluation", "neighbours", "space", "mistakes", "clusters", "made",
    ]  # fmt: skip
    assert "<h3>Validation</h3>" in page
    # The subset that was held out, 18 of 72 pictures, measured on the page's own sample.
    assert "The 18 pictures of the part “validation”, which was not trained on: pictures are circles" in page
    assert "Measured on the pictures that this page shows" in page
    assert "24</b><span>of 24 steps" in page
    assert "http" not in re.sub(r'src="data:[^"]*"', "", page)
    assert "<script" not in page
    assert "<ul" not in page


def test_scores_of_evaluate_are_shown_where_there_are_any(run: Path) -> None:
    found = evaluate_run(run)
    page = page_of(run, num_pictures=6)
    probe = found.subsets["validation"].classification["colour"].linear_probe
    assert probe is not None
    assert f"{100 * probe.value:.1f} %</b><span>linear probe by colour, validation" in page
    assert "6 of the 18 pictures of the part" in page
    assert "Measured on the pictures that this page shows" not in page


def test_what_is_missing_is_said(run: Path) -> None:
    assert headings(page_of(run, num_pictures=0)) == ["training", "made"]
    (run / "model.safetensors").unlink()
    page = page_of(run)
    assert "the run is not finished: pictures and map are of the checkpoint of step 24" in page
    shutil.rmtree(run / "checkpoints")
    shutil.rmtree(run / "best", ignore_errors=True)
    page = page_of(run)
    assert headings(page) == ["training", "made"]
    assert "ended before its first checkpoint" in page
    (run / "metrics.jsonl").unlink()
    assert headings(page_of(run)) == ["made"]


def test_data_that_is_gone_leaves_the_curves(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["data"]["path"] = ["gone.parquet"]
    (run / "config.json").write_text(json.dumps(config))
    page = page_of(run)
    assert headings(page) == ["training", "made"]
    assert "pictures, map and clusters are missing: data.path: gone.parquet: no such file" in page


def test_a_page_of_another_kind_is_not_replaced(run: Path, tmp_path: Path) -> None:
    page_of(run, num_pictures=0)
    page_of(run, num_pictures=0)
    other = tmp_path / "demo.html"
    other.write_text("<p>Written by protoclip demo.")
    with pytest.raises(ConfigError, match=r"demo\.html: is there.*--out"):
        write_run_report(run, other)
    with pytest.raises(ModelError, match=r"no config\.json"):
        write_run_report(tmp_path, tmp_path / "page.html")


def test_a_watched_run_is_shown_as_it_goes_on(run: Path) -> None:
    """The run is put back together bit by bit, each time the watcher waits."""
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    later = {name: run.parent / name for name in ("model.safetensors", "checkpoints")}
    for name, place in later.items():
        (run / name).rename(place)
    (run / "metrics.jsonl").write_text("".join(lines[:4]))
    pages: list[str] = []
    waits: list[float] = []

    def go_on(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            later["checkpoints"].rename(run / "checkpoints")
            (run / "metrics.jsonl").write_text("".join(lines))
        elif len(waits) == 3:
            later["model.safetensors"].rename(run / "model.safetensors")

    path = watch_run(
        run, every_s=7, num_pictures=6, written=lambda path: pages.append(path.read_text()), wait=go_on
    )
    assert path == run / "report.html"
    # Nothing had happened at the second look.
    assert (len(waits), len(pages)) == (3, 3)
    assert [headings(page)[1] for page in pages] == ["made", "evaluation", "evaluation"]
    assert ['http-equiv="refresh" content="7"' in page for page in pages] == [True, True, False]
    assert "of the checkpoint of step 24" in pages[1]
    assert not (run / "features").exists()

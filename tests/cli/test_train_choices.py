"""What `protoclip train` prints of its settings: whole in a pipe, whole on 80 columns, once on many ranks."""

from __future__ import annotations

import io
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from command_line import Run, runner
from rich.console import Console

from protoclip.cli.train.configuration import print_choices
from protoclip.training.choices import Choice

LONG = "/data/a_rather_long_name_of_a_folder/products-of-the-autumn/of [2026]/pairs.csv"
CHOICES = (
    Choice("data.path", [LONG], "--data, in place of that in /data/a_rather_long_name_of_a_folder/shop.toml"),
    Choice("clustering.num_prototypes", 9, "a tenth of an episode, at most one a group"),
    Choice("data.group_column", None, "no picture or text repeats"),
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def _printed(**options: Any) -> str:
    stream = io.StringIO()
    print_choices(CHOICES, Console(file=stream, width=80, **options))
    return stream.getvalue()


def test_in_a_pipe_a_setting_is_a_line_of_toml() -> None:
    lines = _printed().splitlines()
    assert len(lines) == 3
    assert tomllib.loads(lines[0])["data"]["path"] == [LONG]
    assert lines[1] == "clustering.num_prototypes = 9  # a tenth of an episode, at most one a group"
    assert lines[2] == "data.group_column = none  # no picture or text repeats"


def test_on_80_columns_nothing_is_cut_short() -> None:
    shown = _printed(force_terminal=True, no_color=True)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(map(len, plain.splitlines())) <= 80
    assert "…" not in plain
    value = "".join(line[27:].split("  ")[0].strip() for line in plain.splitlines()[2:])
    assert LONG.replace(" ", "") in value.replace(" ", "")


def test_a_dry_run_shows_where_the_settings_of_a_file_come_from(
    run: Run, shapes_config: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "shapes.json"
    file.write_text(json.dumps(shapes_config))
    outcome = run("train", file, "--set", "train.seed=5", "--dry-run", "--out", tmp_path / "run")
    assert outcome.code == 0
    assert f"train.batch_size = 12  # {file}\n" in outcome.err
    assert "train.seed = 5  # --set\n" in outcome.err
    assert "train.precision" not in outcome.err


def test_data_and_a_file_combine_and_only_the_first_rank_tells(
    run: Run, shapes_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "shapes.json"
    [data] = shapes_config["data"].pop("path")
    file.write_text(json.dumps(shapes_config))
    words = ("train", file, "--data", data, "--dry-run", "--out", tmp_path / "run", "--json")
    outcome = run(*words)
    assert outcome.code == 0
    assert outcome.json["steps"] == 24
    assert f"train.steps = 24  # {file}\n" in outcome.err
    monkeypatch.setenv("RANK", "1")
    assert "train.steps" not in run(*words).err

"""A folder as the readers of the tutorials have one: pictures, and tables of them with texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Run, runner
from tiny_training import COLOURS, SHAPES, draw_picture


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: 60 pictures in `photos`, `pairs.csv` of 48, `held_out.csv` and `general.csv` of 12."""
    folder = tmp_path / "shop"
    (folder / "photos").mkdir(parents=True)
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    rows = []
    for number in range(60):
        colour, shape = kinds[number % len(kinds)]
        (folder / "photos" / f"{number + 1}.jpg").write_bytes(draw_picture(colour, shape, number))
        rows.append(f"photos/{number + 1}.jpg,a {colour} {shape}")
    for name, part in (("pairs", rows[:48]), ("held_out", rows[48:]), ("general", rows[36:48])):
        (folder / f"{name}.csv").write_text("\n".join(["image,text", *part]) + "\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder

"""What a command tells is a line of its own, however narrow the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Run

from protoclip.cli.app import console


@pytest.mark.parametrize("columns", ["20", "80"])
def test_a_message_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    message = "shop.index: 60 vectors are an adapter's, " * 8
    console.print(message)
    assert capsys.readouterr().err == f"{message}\n"


def test_an_error_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    path = tmp_path / ("a long name " * 10 + ".detector")
    told = run("detect", "score", path, tmp_path / "shop.index")
    assert told.code == 2
    assert told.err.count("\n") == 1
    assert str(path) in told.err

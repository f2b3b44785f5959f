"""The script that times the preparation of pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts import load_script

PACE = load_script("benchmarks/preprocessing_pace.py")


def test_a_table_of_ones_own_pictures(
    tmp_path: Path, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(PACE.made_up(1, 120, 90))
    (tmp_path / "photos" / "b.txt").write_bytes(b"no picture")
    command = ["pace", tmp_path / "photos", "--artifact", tiny_artifact, "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", [*map(str, command), "--result", str(tmp_path / "pace.md")])
    PACE.main()
    page = (tmp_path / "pace.md").read_text(encoding="utf-8")
    assert page.endswith(capsys.readouterr().out.rstrip("\n") + "\n")
    assert "1 pictures of 0.0 megapixels" in page
    assert "to 32 × 32 (shortest)" in page
    assert [line.split("|")[1].strip() for line in page.splitlines()[5:]] == ["whole", "scaled"]


def test_cores_are_the_pace_times_the_cpu_time() -> None:
    table = PACE.table([("whole", 0.010), ("scaled", 0.0005)], 2000)
    assert "| whole | 10.00 | 100 | 20.0 |" in table
    assert "| scaled | 0.50 | 2,000 | 1.0 |" in table

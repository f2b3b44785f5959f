"""`embed` under torchrun: its ranks share the parts of a folder, and one after them finds nothing to do."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, runner
from forked_python import run as run_forked
from PIL import Image
from pyarrow import parquet


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def test_two_ranks_write_one_folder(run: Run, tmp_path: Path, tiny_artifact: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(10):
        Image.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)).save(photos / f"{number}.png")
    embed = ["embed", photos, "--url", tiny_artifact, "--out", out, "--part-size", "3"]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "protoclip",
    ]
    done = run_forked([*launcher, *map(str, embed)])
    assert done.returncode == 0, done.stderr
    assert sorted(line for line in done.stdout.splitlines() if "pictures in" in line) == [
        f"rank 0 of 2: 6 of 10 pictures in {out}",
        f"rank 1 of 2: 4 of 10 pictures in {out}",
    ]
    assert parquet.read_table(out)["id"].to_pylist() == [str(photos / f"{number}.png") for number in range(10)]
    assert len(list(out.glob("part-*.parquet"))) == 4
    assert run(*embed).out == f"10 pictures in {out}, 10 of them from an earlier run\n"

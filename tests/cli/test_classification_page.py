"""Every command and every line of Python of docs/classification.md, in its order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from page_code import run_page
from PIL import Image
from pyarrow import parquet


@pytest.fixture
def _folder(tmp_path: Path, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROTOCLIP_URL", "artifacts/shop")
    Path("artifacts").mkdir()
    Path("artifacts/shop").symlink_to(tiny_artifact)
    Path("photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(f"photos/{name}.jpg")
    Path("pets.txt").write_text("cat\ndog\nred, blue\n")


@pytest.mark.usefixtures("_folder")
def test_the_page_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code = run_page("classification.md", run, monkeypatch)
    assert code.blocks["python"] == 3
    table = parquet.read_table("answers.parquet")
    assert table.column_names == ["picture", "rank", "label", "probability", "cosine", "error"]
    assert table.num_rows == 6
    assert parquet.read_table("vectors").equals(parquet.read_table("vectors.parquet"))

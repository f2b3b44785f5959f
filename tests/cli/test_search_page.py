"""Every command and every line of Python of docs/search.md, in its order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from other_artifacts import other_artifact
from page_code import run_page
from PIL import Image

import protoclip


@pytest.fixture
def _folder(tmp_path: Path, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROTOCLIP_URL", "artifacts/shop")
    Path("artifacts").mkdir()
    Path("artifacts/shop").symlink_to(tiny_artifact)
    other_artifact(tiny_artifact, Path("artifacts/new"), "fedcba9876543210")
    Path("photos").mkdir()
    rng = np.random.default_rng(0)
    lines = ["image,price,stock,product,color"]
    for number, name in enumerate(("a", "b", "c", "d")):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(f"photos/{name}.jpg")
        lines.append(f"{name}.jpg,{20 * number},true,{number // 2},red")
    Path("photos.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.usefixtures("_folder")
def test_the_page_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # The page's client asks the default address.
    client = protoclip.Client
    monkeypatch.setattr(protoclip, "Client", lambda: client("artifacts/shop"))
    code = run_page("search.md", run, monkeypatch)
    assert code.blocks["python"] == 5
    assert code.names["cheap"] == ["b.jpg", "c.jpg", "a.jpg"]
    assert sorted(file.name for file in Path("shop.index").iterdir()) == ["index.sqlite", "writer.lock"]

"""Every command and every line of Python of docs/search.md, in its order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs" / "search.md"
BLOCK = re.compile(r"^```(sh|python)\n(.+?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def _folder(tmp_path: Path, tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROTOCLIP_URL", "artifacts/shop")
    Path("artifacts").mkdir()
    Path("artifacts/shop").symlink_to(tiny_artifact)
    Path("photos").mkdir()
    rng = np.random.default_rng(0)
    lines = ["image,price,stock,product,color"]
    for number, name in enumerate(("a", "b", "c", "d")):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(f"photos/{name}.jpg")
        lines.append(f"{name}.jpg,{20 * number},true,{number // 2},red")
    Path("photos.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.usefixtures("_folder")
def test_the_page_runs(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert [kind for kind, _ in blocks].count("python") == 5
    import protoclip

    # The page's client asks the default address.
    monkeypatch.setattr(protoclip, "Client", lambda: Client("artifacts/shop"))
    from protoclip.client import Client

    names: dict[str, object] = {}
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, str(PAGE), "exec"), names)  # noqa: S102 - the page is ours
            continue
        for line in text.splitlines():
            program, *words = shlex.split(line, comments=True)
            outcome = run(*words)
            assert (program, outcome.code) == ("protoclip", 0), (line, outcome.err)
    assert names["cheap"] == ["b.jpg", "c.jpg", "a.jpg"]
    assert sorted(file.name for file in Path("shop.index").iterdir()) == ["index.sqlite", "writer.lock"]

"""Every command and every line of Python of docs/stores.md, in its order, with a real PostgreSQL."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from command_line import runner
from PIL import Image
from postgres_server import PostgresServer

from protoclip import Client, Index

PAGE = Path(__file__).parents[3] / "docs" / "stores.md"
BLOCK = re.compile(r"^```(sh|python)\n(.+?)^```", re.MULTILINE | re.DOTALL)


def test_the_page_runs(
    postgres: PostgresServer,
    tiny_artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROTOCLIP_URL", str(tiny_artifact))
    run = runner(monkeypatch, capsys)
    Path("photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(f"photos/{name}.jpg")
    with Client(str(tiny_artifact)) as client:
        metadata = {f"{name}.jpg": {"price": 20 * place} for place, name in enumerate("abc")}
        Index.build("shop.index", client, "photos/", metadata).close()
    monkeypatch.setattr("protoclip.Client", lambda: Client(str(tiny_artifact)))
    text = PAGE.read_text(encoding="utf-8").replace(
        "postgresql://shop@db.example.com/shop?index=", f"{postgres.address}&index=page_"
    )
    blocks = BLOCK.findall(text)
    assert [kind for kind, _ in blocks] == ["sh", "python"]
    names: dict[str, object] = {}
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - the page is ours
            continue
        for line in block.splitlines():
            program, *words = shlex.split(line, comments=True)
            outcome = run(*words)
            assert (program, outcome.code) == ("protoclip", 0), (line, outcome.err)
    assert [hit.id for hit in names["hits"]] in (["b.jpg", "c.jpg"], ["c.jpg", "b.jpg"])  # type: ignore[attr-defined]
    assert len(names["exact"]) == 2  # type: ignore[arg-type]
    with Index.open("back.index") as back, Index.open("photos.index") as photos:
        assert (back.count(), photos.count()) == (3, 2)

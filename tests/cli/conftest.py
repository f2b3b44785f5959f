"""Commands in this process, pictures, and a server that the commands find."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from command_line import Run, runner
from PIL import Image

if TYPE_CHECKING:
    from serving.triton.launcher import LaunchedServer


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, triton: LaunchedServer) -> LaunchedServer:
    """The server, whose address the commands find in the environment."""
    monkeypatch.setenv("PROTOCLIP_URL", triton.grpc_url)
    return triton


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five good pictures, one damaged, and a file that is none."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b [red].png", "c.webp", "more/d.bmp", "more/é👠.png"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / name)
    (folder / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "notes.txt").write_text("no picture")
    return folder

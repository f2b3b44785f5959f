"""Every line of Python of docs/client.md, in its order, against a real server."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from certificates import Certificate
from PIL import Image

from protoclip.client import Client
from serving.triton.launcher import LaunchedServer

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
BLOCK = re.compile(r"^```python\n(.+?)^```", re.MULTILINE | re.DOTALL)
HOSTS = re.compile(r"grpc://(localhost|gpu-host):8001")


def test_the_page_runs(
    triton: LaunchedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    authority = Certificate(tmp_path, "authority")
    authority.issue("me")
    Image.new("RGB", (40, 30), "red").save("cat.jpg")
    client = Client(triton.grpc_url)
    names: dict[str, Any] = {
        "client": client,
        "before": client.model.fingerprint,
        "texts": ["red shoes", "a hat"],
        "paths": ["cat.jpg"] * 3,
    }
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) == 5
    for block in blocks:
        code = compile(HOSTS.sub(triton.grpc_url, block), str(PAGE), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        answer = eval(code, names)  # noqa: S307 - the page is ours
        if asyncio.iscoroutine(answer):
            asyncio.run(answer)
    assert "embed images: 3 of 3" in capsys.readouterr().out
    # The one that decodes pictures itself.
    assert names["client"] is not client
    np.testing.assert_array_equal(names["vector"], names["client"].embed_images("cat.jpg"))
    assert names["name"] == client.model.name
    for one in (client, names["client"]):
        one.close()

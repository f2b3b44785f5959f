"""What the server's metrics say of bad items, which Triton itself does not tell from failures."""

from __future__ import annotations

import io
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from protoclip.client import Client

if TYPE_CHECKING:
    from serving.triton.launcher import LaunchedServer


def refused(server: LaunchedServer, role: str) -> int:
    """0 before the first one."""
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(
        rf'^protoclip_refused_items{{model="tiny_012345_{role}_preprocess"}} (\d+)', text, re.MULTILINE
    )
    return int(found[0]) if found else 0


def picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "PNG")
    return data.getvalue()


def test_bad_pictures_are_counted_alone_and_beside_good_ones(triton: LaunchedServer) -> None:
    with Client(triton.grpc_url) as client:
        before = refused(triton, "image")
        client.embed_images([picture(), b"none", picture(), b"nor this"], errors="return")
        assert refused(triton, "image") == before + 2
        client.embed_images([b"none"], errors="return")
        assert refused(triton, "image") == before + 3
        client.embed_images([picture(), picture()])
        assert refused(triton, "image") == before + 3


def test_a_bad_text_is_counted(triton: LaunchedServer) -> None:
    before = refused(triton, "text")
    request = urllib.request.Request(
        f"{triton.http_url}/v2/models/tiny_012345_text/infer", b"\xff", {"Inference-Header-Content-Length": "0"}
    )
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=10)
    assert refused(triton, "text") == before + 1

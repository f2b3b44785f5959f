"""Pictures and texts that cost much: what the others notice of them, on a real server."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protoclip.client import Refused, Unavailable
from protoclip.client.connection import connect
from protoclip.client.transport import Transport
from protoclip.contract.pixels import count_pixels
from serving.triton.launcher import LaunchedServer, TritonServer

ATTEMPTS = 4
IMAGE, TEXT = "tiny_012345_image", "tiny_012345_text"


@pytest.fixture(scope="module")
def server(tiny_repository: Path) -> Iterator[LaunchedServer]:
    with TritonServer(tiny_repository) as launched:
        yield launched


@pytest.fixture(params=["grpc", "http"])
def transport(request: pytest.FixtureRequest, server: LaunchedServer) -> Iterator[Transport]:
    way = connect(server.grpc_url if request.param == "grpc" else server.http_url)
    yield way
    way.close()


def _png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (width, height), 200).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


@pytest.fixture(scope="module")
def large() -> bytes:
    """81 million pixels: the decoder needs a second or so."""
    return _png(9000, 9000)


@pytest.fixture(scope="module")
def small() -> bytes:
    return _png(60, 40)


def test_large_pictures_are_decoded_as_always(transport: Transport, large: bytes, small: bytes) -> None:
    together = transport.infer(IMAGE, "image", [small, large, b"none"], 120)
    alone = transport.infer(IMAGE, "image", [large], 120)
    assert (together.errors[:2], bool(together.errors[2])) == (("", ""), True)
    np.testing.assert_allclose(together.embeddings[1], alone.embeddings[0], atol=1e-6)


def test_large_pictures_leave_a_way_for_the_others(transport: Transport, large: bytes, small: bytes) -> None:
    """Six of them, and small ones that come last, of which one is answered before the first of them.

    On a busy machine the first large one may be answered before a small one is sent: then once more.
    """
    for _ in range(ATTEMPTS):
        order = _answered(transport, large, small)
        assert order.count("large") >= 1, "one is decoded in any case"
        assert order.count("large") + order.count("refused") == 6
        if "small" in order and order.index("small") < order.index("large"):
            return
    raise AssertionError(f"no small one was answered before a large one: {order}")


def _answered(transport: Transport, large: bytes, small: bytes) -> list[str]:
    order: list[str] = []

    def ask(name: str, picture: bytes) -> None:
        try:
            transport.infer(IMAGE, "image", [picture], 120)
            order.append(name)
        except Unavailable as error:
            order.append("refused" if "other large pictures now: try again" in str(error) else str(error))

    threads = [threading.Thread(target=ask, args=("large", large)) for _ in range(6)]
    for thread in threads:
        thread.start()
    # Sent until a large one is answered.
    while "large" not in order and order.count("small") < 50:
        ask("small", small)
    for thread in threads:
        thread.join()
    return order


def test_a_request_of_very_many_pixels_is_refused(transport: Transport) -> None:
    most = _png(10_000, 10_000)
    with pytest.raises(Refused, match="900000000 pixels together, the limit is 800000000: send fewer"):
        transport.infer(IMAGE, "image", [most] * 9, 60)


def test_a_request_of_very_much_text_is_refused(transport: Transport) -> None:
    words = b"word " * 4000
    assert transport.infer(TEXT, "text", [words] * 8, 60).errors == ("",) * 8
    with pytest.raises(Refused, match="1280000 bytes together, the limit is 524288: send fewer in one request"):
        transport.infer(TEXT, "text", [words] * 64, 60)


def test_pixels_are_counted_by_the_header() -> None:
    for file_format in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF"):
        stream = io.BytesIO()
        Image.new("RGB", (70, 30)).save(stream, file_format)
        assert count_pixels(stream.getvalue(), 2100) == 2100, file_format
        assert count_pixels(stream.getvalue(), 2099) == 0, "it is refused"
    for damaged in (b"", b"none", _png(5, 5)[:20]):
        assert count_pixels(damaged, 2100) == 0

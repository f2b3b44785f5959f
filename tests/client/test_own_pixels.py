"""Pictures that the client decodes: bit for bit what the server makes of them, or an error that says why not."""

from __future__ import annotations

import asyncio
import http.client
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import GifImagePlugin, ImageFile

from protoclip.client import AsyncClient, Client, InMemoryTransport, MemoryModel, own_pixels
from protoclip.client.sample_pictures import CUT_SHORT, sample_pictures
from protoclip.contract.decoders import decoder_versions
from protoclip.contract.errors import ConfigError
from protoclip.contract.pixels import PixelSpec, load_pixels
from protoclip.contract.rgb import PictureError

GOOD = [data for name, data in sample_pictures().items() if name != CUT_SHORT]
BAD = [sample_pictures()[CUT_SHORT], b"no picture"]


@pytest.fixture(params=["grpc", "http"])
def url(request: pytest.FixtureRequest, triton: Any) -> str:
    return str(triton.grpc_url if request.param == "grpc" else triton.http_url)


def test_requests_have_bounded_bytes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(url, concurrency=1) as server, Client(url, concurrency=1, preprocess="client") as client:
        expected = server.embed_images(GOOD[:5])
        sent = []
        ask = client._core.transport.infer_tensors

        def seen(model: str, tensor: Any, *rest: Any) -> Any:
            sent.append(tensor.shape)
            return ask(model, tensor, *rest)

        client.embed_images(GOOD[:1])
        monkeypatch.setattr(client._core.transport, "infer_tensors", seen)
        client.embed_images(GOOD[:1])
        monkeypatch.setattr(own_pixels, "MAX_REQUEST_BYTES", 2 * int(np.prod(sent[0])))
        found = client.embed_images(GOOD[:5])
    assert [shape[0] for shape in sent] == [1, 2, 2, 1]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.fixture
def other_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """One value of one picture, as another decoder might round it."""

    def rounded(data: bytes, spec: PixelSpec) -> Any:
        pixels = load_pixels(data, spec)
        if data == sample_pictures()["JPEG 4:2:0"]:
            pixels[3, 4, 1] ^= 1
        return pixels

    monkeypatch.setattr(own_pixels, "LOADERS", {"whole": rounded})


@pytest.fixture
def other_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_pixels, "decoder_versions", lambda: decoder_versions() | {"Pillow": "11.3.0"})


def _asks_for_pixels(client: Client | AsyncClient) -> None:
    """From now on a picture's file can't be sent."""
    client._core.transport.infer = None  # type: ignore[assignment, method-assign]


@pytest.mark.parametrize("items", [GOOD, [GOOD[0]], [*GOOD[:3], *BAD, *GOOD[3:]], BAD * 4], ids=len)
def test_embeddings_are_the_servers_own_bit_for_bit(url: str, items: list[bytes]) -> None:
    with Client(url, concurrency=1) as server, Client(url, concurrency=1, preprocess="client") as client:
        _asks_for_pixels(client)
        expected = server.embed_images(items, errors="return")
        found = client.embed_images(items, errors="return")
    assert [str(error) for error in found.errors] == [str(error) for error in expected.errors]
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    good = expected.vectors[~np.isnan(expected.vectors).any(axis=1)]
    assert len(np.unique(good, axis=0)) >= 0.7 * len(good)  # "PNG", "BMP" and "TIFF" are one picture


def test_all_methods_send_pixels(url: str) -> None:
    with Client(url, preprocess="client") as client, Client(url) as server:
        _asks_for_pixels(client)
        parts = list(client.stream_images(GOOD[:10] + BAD))
        np.testing.assert_allclose(
            np.concatenate([part.vectors for part in parts])[:10], server.embed_images(GOOD[:10]), atol=1e-6
        )
        assert [error.position for part in parts for error in part.errors] == [10, 11]
        assert client.embed_images(GOOD[0]).shape == (16,)


def test_the_twin_sends_pixels_too(url: str) -> None:
    async def ask() -> Any:
        async with AsyncClient(url, preprocess="client") as client:
            _asks_for_pixels(client)
            return await client.embed_images(GOOD[:5])

    with Client(url) as server:
        np.testing.assert_array_equal(asyncio.run(ask()), server.embed_images(GOOD[:5]))


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        ("other_pillow", rf"Pillow {decoder_versions()['Pillow']} there, 11\.3\.0 here\): install the server's"),
        ("other_pixels", r"a sample \(JPEG 4:2:0\) has other pixels here"),
    ],
)
class TestDifferences:
    def test_are_an_error(self, url: str, request: Any, difference: str, reason: str) -> None:
        request.getfixturevalue(difference)
        with Client(url, preprocess="client") as client:
            for _ in range(2):
                with pytest.raises(ConfigError, match=reason):
                    client.embed_images(GOOD[:2])
            assert client.embed_texts("a red shoe").shape == (16,)

    def test_leave_it_to_the_server_with_one_warning(
        self, url: str, request: Any, difference: str, reason: str
    ) -> None:
        request.getfixturevalue(difference)
        with Client(url, preprocess="auto") as client, Client(url) as server:
            with pytest.warns(UserWarning, match=reason):
                found = client.embed_images(GOOD[:2])
            np.testing.assert_array_equal(found, server.embed_images(GOOD[:2]))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                client.embed_images(GOOD[:2])


def test_following_compares_again(url: str, request: pytest.FixtureRequest) -> None:
    with Client(url, preprocess="client") as client:
        client.embed_images(GOOD[:2])
        request.getfixturevalue("other_pillow")
        client.embed_images(GOOD[:2])
        client.follow()
        with pytest.raises(ConfigError, match="Pillow"):
            client.embed_images(GOOD[:2])


@pytest.mark.parametrize(
    ("holder", "name", "value"),
    [
        (ImageFile, "LOAD_TRUNCATED_IMAGES", True),
        (GifImagePlugin, "LOADING_STRATEGY", GifImagePlugin.LoadingStrategy.RGB_ALWAYS),
    ],
)
def test_settings_of_pillow_are_looked_at_each_time(
    triton: Any, monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, value: object
) -> None:
    with Client(triton.http_url, preprocess="auto") as client:
        client.embed_images(GOOD[0])
        monkeypatch.setattr(holder, name, value)
        with pytest.raises(ConfigError, match=f"{name} is .* in this process"):
            client.embed_images(GOOD[0])
    with Client(triton.http_url, preprocess="client") as client, pytest.raises(ConfigError, match=name):
        client.embed_images(GOOD[0])


def test_an_artifact_decodes_here_anyway(tiny_artifact: Path) -> None:
    with Client(str(tiny_artifact), preprocess="client") as client, Client(str(tiny_artifact)) as plain:
        np.testing.assert_array_equal(client.embed_images(GOOD), plain.embed_images(GOOD))


def test_a_transport_without_tensors_is_named(memory_model: MemoryModel) -> None:
    client = Client(transport=InMemoryTransport(memory_model), preprocess="client")
    with pytest.raises(ConfigError, match="InMemoryTransport takes no pixels"):
        client.embed_images(GOOD[0])
    with pytest.raises(ConfigError, match="preprocess='gpu' is unknown: use 'server', 'client', 'auto'"):
        Client(transport=InMemoryTransport(memory_model), preprocess="gpu")  # type: ignore[arg-type]


def test_samples_differ_from_each_other_and_one_is_bad() -> None:
    spec = PixelSpec(64, 64, color_management="srgb")
    made: dict[str, Any] = {}
    for name, data in sample_pictures().items():
        if name == CUT_SHORT:
            with pytest.raises(PictureError, match="cut short"):
                load_pixels(data, spec)
        else:
            made[name] = load_pixels(data, spec).tobytes()
    # PNG, BMP and TIFF are one picture without loss, PNG and WebP with alpha another one.
    assert len(made) - len(set(made.values())) == 3
    stored = load_pixels(sample_pictures()["JPEG with a profile"], PixelSpec(64, 64))
    assert stored.tobytes() != made["JPEG with a profile"]


@pytest.fixture
def post(triton: Any) -> Iterator[Callable[[str, dict[str, Any]], Any]]:
    connection = http.client.HTTPConnection(triton.http_url.removeprefix("http://"), timeout=30)

    def send(model: str, tensor: dict[str, Any]) -> Any:
        connection.request("POST", f"/v2/models/tiny_012345_{model}/infer", json.dumps({"inputs": [tensor]}))
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    yield send
    connection.close()


def test_the_guard_lets_pixels_through_and_no_tokens(post: Callable[[str, dict[str, Any]], Any]) -> None:
    pixels = {"name": "pixels", "shape": [1, 32, 32, 3], "datatype": "UINT8"}
    status, answer = post("image_encoder", {**pixels, "data": [0] * 3071 + [255]})
    assert status == 200, answer
    assert answer["outputs"][0]["shape"] == [1, 16]
    status, answer = post("image_encoder", {**pixels, "data": [0] * 3071 + [256]})
    assert (status, answer["error"]) == (400, "inputs: data has numbers that UINT8 does not hold")
    tokens = {"name": "tokens", "shape": [1, 77], "datatype": "INT32", "data": [0] * 77}
    assert post("text_encoder", tokens)[0] == 404

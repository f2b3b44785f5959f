"""A real Triton against the same graphs run in this process, and what it does with bad items."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray
from PIL import Image

from protoclip.contract.manifest import load_manifest
from protoclip.contract.pixels import load_pixels
from protoclip.contract.reasons import unpack_reasons
from protoclip.contract.text import Tokenizer
from serving.triton.launcher import LaunchedServer

IMAGE, TEXT = "tiny_012345_image", "tiny_012345_text"
TOLERANCE = 1e-6
TEXTS = ["a red shoe", "ΟΔΥΣΣΕΥΣ &amp; 漢字 🙂", "x" * 5000, "a", "two words", "it's <b>bold</b>"]


@dataclass(frozen=True)
class Answer:
    embedding: NDArray[np.float32]
    errors: list[str]


@pytest.fixture(scope="module", params=["grpc", "http"])
def ask(request: pytest.FixtureRequest, triton: LaunchedServer) -> Any:
    """`ask(model, items)` over gRPC and over HTTP."""
    library: ModuleType = getattr(tritonclient, request.param)
    url = triton.grpc_url if request.param == "grpc" else triton.http_url
    client = library.InferenceServerClient(url.split("://")[1])

    def infer(model: str, items: Sequence[bytes]) -> Answer:
        source = library.InferInput("image" if model == IMAGE else "text", [len(items), 1], "BYTES")
        source.set_data_from_numpy(np.array([[item] for item in items], dtype=np.object_))
        result = client.infer(model, [source])
        return Answer(result.as_numpy("embedding"), list(unpack_reasons(result.as_numpy("error"))))

    yield infer
    client.close()


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Nine different files: sizes, modes and formats vary."""
    rng = np.random.default_rng(0)
    files = []
    for number, (mode, file_format) in enumerate([("RGB", "PNG"), ("L", "JPEG"), ("RGBA", "WEBP")] * 3):
        pixels = rng.integers(0, 256, (40 + number, 30 + 7 * number, 4), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels, "RGBA").convert(mode).save(buffer, file_format)
        files.append(buffer.getvalue())
    return files


@pytest.fixture(scope="module")
def expected(tiny_artifact: Path) -> Callable[[str, Sequence[bytes]], NDArray[np.float32]]:
    """The vectors that the artifact gives without a server, one item at a time."""
    from onnxruntime import InferenceSession

    manifest = load_manifest(tiny_artifact)
    tokenizer = Tokenizer((tiny_artifact / "tokenizer.json").read_text(encoding="utf-8"), manifest.text)
    sessions = {
        IMAGE: InferenceSession(tiny_artifact / "image.onnx", providers=["CPUExecutionProvider"]),
        TEXT: InferenceSession(tiny_artifact / "text.onnx", providers=["CPUExecutionProvider"]),
    }

    def embed(model: str, items: Sequence[bytes]) -> NDArray[np.float32]:
        rows = []
        for item in items:
            if model == IMAGE:
                feed: dict[str, Any] = {"pixels": load_pixels(item, manifest.pixels)[None]}
            else:
                feed = {"tokens": tokenizer.encode([item.decode()])}
            rows.append(sessions[model].run(None, feed)[0][0])
        return np.stack(rows)

    return embed


def test_pictures_are_embedded_as_without_a_server(ask: Any, expected: Any, pictures: list[bytes]) -> None:
    answer = ask(IMAGE, pictures)
    assert answer.errors == [""] * len(pictures)
    assert np.abs(answer.embedding - expected(IMAGE, pictures)).max() <= TOLERANCE
    np.testing.assert_allclose(np.linalg.norm(answer.embedding, axis=1), 1.0, atol=1e-6)
    # Nine answers that do not depend on their pictures would agree with each other.
    assert np.abs(np.corrcoef(answer.embedding) - np.eye(9)).max() < 0.999


def test_texts_are_embedded_as_without_a_server(ask: Any, expected: Any) -> None:
    items = [text.encode() for text in TEXTS]
    answer = ask(TEXT, items)
    assert answer.errors == [""] * len(items)
    assert np.abs(answer.embedding - expected(TEXT, items)).max() <= TOLERANCE
    assert len(np.unique(answer.embedding.round(4), axis=0)) == len(items)


def test_bad_pictures_do_not_touch_their_neighbours(ask: Any, expected: Any, pictures: list[bytes]) -> None:
    bad = {1: b"no picture", 4: b"", 6: pictures[0][:60]}
    items = [bad.get(position, picture) for position, picture in enumerate(pictures)]
    answer = ask(IMAGE, items)
    assert [position for position, error in enumerate(answer.errors) if error] == sorted(bad)
    good = [position for position in range(len(items)) if position not in bad]
    difference = answer.embedding[good] - expected(IMAGE, [items[position] for position in good])
    assert np.abs(difference).max() <= TOLERANCE


def test_bad_texts_do_not_touch_their_neighbours(ask: Any, expected: Any) -> None:
    items = [b"good", b"  ", b"caf\xe9", b"", b"gut", b"nul\0", b"&#" + b"9" * 5000 + b";"]
    answer = ask(TEXT, items)
    assert [position for position, error in enumerate(answer.errors) if error] == [1, 2, 3, 5, 6]
    assert answer.errors[2] == "not UTF-8: byte 0xe9 at position 3"
    assert "blank" in answer.errors[1]
    assert np.abs(answer.embedding[[0, 4]] - expected(TEXT, [items[0], items[4]])).max() <= TOLERANCE


@pytest.mark.parametrize(
    ("model", "item", "reason"),
    [(IMAGE, b"no picture", "picture"), (IMAGE, b"", "empty"), (TEXT, b"", "blank"), (TEXT, b"\xff", "not UTF-8")],
)
def test_a_lone_bad_item_is_refused(ask: Any, pictures: list[bytes], model: str, item: bytes, reason: str) -> None:
    with pytest.raises(tritonclient.grpc.InferenceServerException, match=reason) as refusal:
        ask(model, [item])
    assert refusal.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
    assert ask(IMAGE, pictures[:1]).errors == [""]


def test_more_items_than_the_batch_allows_are_refused(ask: Any) -> None:
    assert len(ask(TEXT, [b"word"] * 64).errors) == 64
    with pytest.raises(
        tritonclient.grpc.InferenceServerException, match=r"batch-size must be <= 64|takes 1 to 64 items"
    ):
        ask(TEXT, [b"word"] * 65)


def test_requests_that_are_batched_together_keep_their_own_rows(
    triton: LaunchedServer, expected: Any, pictures: list[bytes]
) -> None:
    def post(number: int) -> tuple[int, Any]:
        return number, _post_raw(triton, IMAGE, b"bad" if number % 5 == 0 else pictures[number % 9])

    want = expected(IMAGE, pictures)
    with ThreadPoolExecutor(16) as pool:
        for number, (status, body) in pool.map(post, range(48)):
            assert status == (400 if number % 5 == 0 else 200)
            if status == 200:
                assert np.abs(body - want[number % 9]).max() <= TOLERANCE


def test_plain_curl_is_enough(triton: LaunchedServer, expected: Any, pictures: list[bytes]) -> None:
    status, vector = _post_raw(triton, IMAGE, pictures[2])
    assert status == 200
    assert np.abs(vector - expected(IMAGE, pictures[2:3])[0]).max() <= TOLERANCE
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["red shoes"]}]}
    connection = http.client.HTTPConnection(triton.http_url.removeprefix("http://"), timeout=30)
    connection.request("POST", f"/v2/models/{TEXT}/infer", json.dumps(body))
    outputs = {output["name"]: output["data"] for output in json.loads(connection.getresponse().read())["outputs"]}
    connection.close()
    assert np.abs(np.array(outputs["embedding"]) - expected(TEXT, [b"red shoes"])[0]).max() <= TOLERANCE
    assert outputs["error"] == [0] * 256


def test_public_models_describe_themselves(triton: LaunchedServer) -> None:
    client = tritonclient.grpc.InferenceServerClient(triton.grpc_url.removeprefix("grpc://"))
    for model in (IMAGE, TEXT):
        parameters = client.get_model_config(model).config.parameters
        found = {key: value.string_value for key, value in parameters.items()}
        assert (found.pop("pixels", None) is not None) == (model == IMAGE)
        assert found == {
            "protoclip_name": "tiny",
            "fingerprint": "0123456789abcdef",
            "bulk_batch_size": "8",
            "embedding_dim": "16",
            "engine": "onnx_fp32",
            "temperature": "100.0",
            "logit_bias": "",
            "probabilities": "softmax",
            "precision": "fp32",
            "verdict": "passed",
        }
    client.close()


def _post_raw(server: LaunchedServer, model: str, body: bytes) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=30)
    connection.request("POST", f"/v2/models/{model}/infer", body, {"Inference-Header-Content-Length": "0"})
    response = connection.getresponse()
    data, length = response.read(), response.getheader("Inference-Header-Content-Length")
    connection.close()
    if length is None:
        return response.status, json.loads(data)["error"]
    sizes = {o["name"]: o["parameters"]["binary_data_size"] for o in json.loads(data[: int(length)])["outputs"]}
    start = int(length) + (sizes["error"] if next(iter(sizes)) == "error" else 0)
    return response.status, np.frombuffer(data[start : start + sizes["embedding"]], dtype="<f4")

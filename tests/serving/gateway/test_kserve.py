"""KServe v2 through the gateway: the same bytes as from the server itself, on the guard's routes alone."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gateway_shop import COLORS, picture
from running_gateway import Answer, RunningGateway, running_gateway
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from protoclip.client import Client

if TYPE_CHECKING:
    from serving.triton.launcher import LaunchedServer

RED = picture(COLORS["red"], 3)


@pytest.fixture(scope="module")
def running(triton: LaunchedServer) -> Iterator[RunningGateway]:
    with running_gateway(url=triton.grpc_url, kserve_url=triton.http_url, body_bytes=1 << 20) as running:
        yield running


@pytest.fixture(scope="module")
def direct(triton: LaunchedServer) -> RunningGateway:
    """The server's own port, asked in the same way."""
    return RunningGateway(triton.http_url, int(triton.http_url.rpartition(":")[2]), None, [])  # type: ignore[arg-type]


def binary(item: bytes) -> tuple[bytes, dict[str, str]]:
    tensor = struct.pack("<I", len(item)) + item
    inputs = [
        {"name": "image", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": len(tensor)}}
    ]
    outputs = [{"name": "embedding", "parameters": {"binary_data": True}}]
    header = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    return header + tensor, {
        "Inference-Header-Content-Length": str(len(header)),
        "Content-Type": "application/octet-stream",
    }


def shown(answer: Answer) -> tuple[int, bytes, str | None]:
    return answer.status, answer.body, answer.headers.get("inference-header-content-length")


def test_answers_are_the_servers_own(running: RunningGateway, direct: RunningGateway) -> None:
    text = json.dumps(
        {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["red"]}]}
    ).encode()
    requests: list[tuple[str, str, bytes | None, dict[str, str]]] = [
        ("GET", "/v2", None, {}),
        ("GET", "/v2/health/ready", None, {}),
        ("GET", "/v2/models/tiny_012345_image", None, {}),
        ("GET", "/v2/models/tiny_012345_image/config", None, {}),
        ("POST", "/v2/repository/index", b"", {}),
        ("POST", "/v2/models/tiny_012345_text/infer", text, {}),
        ("POST", "/v2/models/tiny_012345_image/infer", RED, {"Inference-Header-Content-Length": "0"}),
        ("POST", "/v2/models/tiny_012345_image/infer", *binary(RED)),
        ("POST", "/v2/models/tiny_012345_image/infer", b"no picture", {"Inference-Header-Content-Length": "0"}),
        ("POST", "/v2/models/tiny_012345_image/infer", b"{", {}),
        ("POST", "/v2/models/tiny_012345_image/infer", b"", {}),
        ("POST", "/v2/models/tiny_012345_image/infer", b'{"inputs": []}', {}),
        ("POST", "/v2/models/tiny_012345_image/infer", b"", {"Inference-Header-Content-Length": "0"}),
        ("POST", "/v2/models/tiny_012345_image/infer", *binary(b"")),
        ("POST", "/v2/models/tiny_012345_text/infer", text.replace(b"red", b""), {}),
        (
            "POST",
            "/v2/models/tiny_012345_text/infer",
            text.replace(b"[1, 1]", b"[0, 1]").replace(b'"red"', b""),
            {},
        ),
        ("POST", "/v2/models/none/infer", text, {}),
    ]
    for method, path, body, headers in requests:
        through, own = running.ask(method, path, body, headers), direct.ask(method, path, body, headers)
        assert shown(through) == shown(own), path
        assert through.headers.get("content-type") == own.headers.get("content-type")


def test_our_client_works_through_it(running: RunningGateway, triton: LaunchedServer) -> None:
    with Client(running.url) as through, Client(triton.grpc_url) as own:
        assert through.model == own.model
        np.testing.assert_array_equal(through.embed_images([RED, RED]), own.embed_images([RED, RED]))
        np.testing.assert_array_equal(through.embed_texts(["a", "b"]), own.embed_texts(["a", "b"]))
        answer = through.embed_images([RED, b"no picture"], errors="return")
        assert [error.position for error in answer.errors] == [1]


def test_tritons_own_client_works_through_it(running: RunningGateway, triton: LaunchedServer) -> None:
    with InferenceServerClient(running.url.removeprefix("http://")) as client, Client(triton.grpc_url) as own:
        assert client.is_server_ready()
        for role, items, expected in (
            ("image", [RED, RED], own.embed_images([RED, RED])),
            ("text", [b"a", b"red"], own.embed_texts(["a", "red"])),
        ):
            tensor = InferInput(role, [2, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[item] for item in items], dtype=np.object_))
            found = client.infer(f"tiny_012345_{role}", [tensor]).as_numpy("embedding")
            np.testing.assert_array_equal(found, expected)
        with pytest.raises(InferenceServerException, match="unknown model"):
            client.infer("none", [tensor])
        tensor.set_data_from_numpy(np.array([[b"x" * (1 << 20)], [b""]], dtype=np.object_))
        with pytest.raises(InferenceServerException, match="more than 1048576 bytes"):
            client.infer("tiny_012345_text", [tensor])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/repository/models/tiny_012345_text/unload", 404),
        ("POST", "/v2/repository/models/tiny_012345_text/load", 404),
        ("GET", "/v2/systemsharedmemory/status", 404),
        ("GET", "/v2/trace/setting", 404),
        ("POST", "/v2/logging", 404),
        ("GET", "/v2/models/../../etc", 404),
        ("GET", "/v2/models/a%2f..%2fb", 404),
        ("GET", "/v2/models/tiny_012345_text/infer", 404),
        ("GET", "/v2/models/tiny_012345_text?x=1", 400),
        ("PUT", "/v2", 405),
        ("GET", "/v2/models/" + "a" * 300, 404),
    ],
)
def test_other_routes_never_reach_the_server(running: RunningGateway, method: str, path: str, status: int) -> None:
    answer = running.ask(method, path, b"" if method == "POST" else None)
    assert answer.status == status
    assert set(answer.json) == {"error", "code"}


def test_bodies_are_bounded(running: RunningGateway) -> None:
    answer = running.ask("POST", "/v2/models/tiny_012345_image/infer", b"x" * ((1 << 20) + 1))
    assert answer.status == 413


def test_search_and_health_ask_the_same_server(running: RunningGateway) -> None:
    assert running.get("/healthz").json["model"] == "tiny_012345"
    answer = running.post("/classify", {"pictures": ["iVBORw0KGgo="], "labels": ["a", "b"]})
    assert answer.status == 400


def test_head_is_get_without_its_body(running: RunningGateway) -> None:
    got, head = (running.ask(method, "/v2/models/stats") for method in ("GET", "HEAD"))
    assert (got.status, head.status, head.body) == (200, 200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]

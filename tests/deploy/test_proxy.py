"""The proxy of deploy/compose, run on the loopback in front of a real server: TLS, keys, rates, bounds, log."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from local_proxy import CLIENT, KEY, LocalProxy, local_proxy
from tritonclient.utils import InferenceServerException

from protoclip.client import Client
from protoclip.client.errors import NotAuthorized

if TYPE_CHECKING:
    from serving.triton.launcher import LaunchedServer

INFER = "/v2/models/tiny_012345_text/infer"
RAW = {"Inference_Header_Content_Length": "0"}
BEARER = {"Authorization": f"Bearer {KEY}"}
OTHER = {"X_Api_Key": "another-key"}
BODY_BYTES = 72 * 1024 * 1024
BUCKET = "{max_tokens: 400, tokens_per_fill: 200, fill_interval: 1s}"
TOKENS = 5


@pytest.fixture
def grpc(proxy: LocalProxy) -> Iterator[triton_grpc.InferenceServerClient]:
    with grpc_client(proxy) as client:
        yield client


@pytest.fixture
def strict(measured_server: LaunchedServer, tmp_path: Path) -> Iterator[LocalProxy]:
    """With so few tokens that any machine is fast enough to use them up."""
    bucket = {BUCKET: f"{{max_tokens: {TOKENS}, tokens_per_fill: 1, fill_interval: 60s}}"}
    with local_proxy(tmp_path / "etc", measured_server.http_url, measured_server.grpc_url, bucket) as started:
        yield started


def grpc_client(proxy: LocalProxy) -> triton_grpc.InferenceServerClient:
    address = f"localhost:{proxy.port}"
    return triton_grpc.InferenceServerClient(address, ssl=True, root_certificates=str(proxy.authority))


def text_input() -> list[Any]:
    item = triton_grpc.InferInput("text", [1, 1], "BYTES")
    item.set_data_from_numpy(np.array([[b"red shoes"]], dtype=np.object_))
    return [item]


def logged(proxy: LocalProxy, words: str) -> dict[str, Any]:
    """The first line of the log with these words, which may come a little later."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for line in proxy.log.read_text().splitlines():
            if words in line:
                return json.loads(line)
        time.sleep(0.1)
    raise AssertionError(f"{words} is not in the log")


def test_an_embedding_over_http_with_a_key(proxy: LocalProxy) -> None:
    for key in (BEARER, {"X_Api_Key": KEY}):
        status, headers, body = proxy.ask("POST", INFER, b"red shoes", **RAW, **key)
        assert status == 200
        assert json.loads(body[: int(headers["inference-header-content-length"])])["outputs"]


def test_an_embedding_over_grpc_with_a_key(grpc: triton_grpc.InferenceServerClient) -> None:
    answer = grpc.infer("tiny_012345_text", text_input(), headers={"authorization": f"Bearer {KEY}"})
    assert answer.as_numpy("embedding").shape == (1, 16)


@pytest.mark.parametrize("headers", [{}, {"X_Api_Key": "wrong"}, {"X_Protoclip_Client": CLIENT}])
def test_no_http_answer_without_a_key(proxy: LocalProxy, headers: dict[str, str]) -> None:
    assert proxy.ask("POST", INFER, b"red shoes", **RAW, **headers)[0] == 401


def test_no_grpc_answer_without_a_key(grpc: triton_grpc.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
        grpc.infer("tiny_012345_text", text_input())


def test_health_is_open_to_load_balancers(proxy: LocalProxy) -> None:
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert proxy.ask("GET", path)[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/models/tiny_012345_text/load"),
        ("POST", "/v2/systemsharedmemory/region/x/register"),
        ("GET", "/v2/logging"),
        ("GET", "/v2/models/tiny_012345_text%2finfer"),
        ("GET", "/metrics"),
    ],
)
def test_other_paths_are_not_passed_on(proxy: LocalProxy, method: str, path: str) -> None:
    status, headers, _ = proxy.ask(method, path, None, **BEARER)
    assert status in (400, 404)
    assert "x-envoy-upstream-service-time" not in headers


def test_other_grpc_methods_are_not_passed_on(grpc: triton_grpc.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="not served here"):
        grpc.get_log_settings(headers={"authorization": f"Bearer {KEY}"})


def test_the_server_gets_a_chunked_body_whole(proxy: LocalProxy) -> None:
    """700,000 chunks of a byte ended the server that got them as they were."""
    assert proxy.ask("POST", INFER, [b"r"] * 2000, **RAW, **BEARER)[0] == 200


def test_a_body_beyond_the_bound_is_refused(proxy: LocalProxy) -> None:
    status, headers, _ = proxy.ask("POST", INFER, bytes(BODY_BYTES + 1), **RAW, **BEARER)
    assert status == 413
    assert "x-envoy-upstream-service-time" not in headers


def test_plain_text_gets_no_answer(proxy: LocalProxy) -> None:
    with pytest.raises((OSError, HTTPException)):
        urllib.request.urlopen(f"http://127.0.0.1:{proxy.port}/v2/health/live", timeout=10)


def test_old_tls_is_refused(proxy: LocalProxy) -> None:
    context = ssl.create_default_context(cafile=str(proxy.authority))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(urllib.error.URLError, match=r"(?i)version|alert|no protocols"):
        urllib.request.urlopen(f"https://localhost:{proxy.port}/v2/health/live", context=context, timeout=10)


def test_the_log_has_a_line_for_each_request(proxy: LocalProxy) -> None:
    """With the id that the client got, the client's name, and never the key."""
    _, headers, _ = proxy.ask("POST", INFER, b"\xff", **RAW, **BEARER, X_Protoclip_Client="somebody else")
    line = logged(proxy, headers["x-request-id"])
    assert (line["client"], line["status"], line["method"], line["path"]) == (CLIENT, 400, "POST", INFER)
    assert line["duration_ms"] >= int(line["server_ms"])
    assert KEY not in proxy.log.read_text()


def wait_for(proxy: LocalProxy, headers: dict[str, str], status: int) -> None:
    until = time.monotonic() + 30
    while (found := proxy.ask("GET", "/v2", **headers)[0]) != status:
        assert time.monotonic() < until, found
        time.sleep(0.1)


def test_keys_are_read_again_when_their_file_is_replaced(proxy: LocalProxy) -> None:
    keys = proxy.authority.with_name("keys.yaml")
    before = keys.read_text()
    wait_for(proxy, OTHER, 401)
    for text, headers in ((before.replace(KEY, OTHER["X_Api_Key"]), OTHER), (before, BEARER)):
        fresh = keys.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(keys)
        wait_for(proxy, headers, 200)
    wait_for(proxy, OTHER, 401)


def test_keys_are_read_again_as_kubernetes_replaces_them(proxy: LocalProxy) -> None:
    """It keeps the files of a Secret in a folder, and turns a link to that."""
    keys = proxy.authority.with_name("keys.yaml")
    before = keys.read_text()
    for folder, text, headers in (
        ("..1", before.replace(KEY, OTHER["X_Api_Key"]), OTHER),
        ("..2", before, BEARER),
    ):
        keys.with_name(folder).mkdir()
        keys.with_name(folder).joinpath("keys.yaml").write_text(text)
        link_by_rename(keys.with_name("..data"), folder)
        if not keys.is_symlink():
            link_by_rename(keys, "..data/keys.yaml")
        wait_for(proxy, headers, 200)
    wait_for(proxy, OTHER, 401)


def link_by_rename(link: Path, target: str) -> None:
    fresh = link.with_name("fresh-link")
    fresh.symlink_to(target)
    fresh.rename(link)


def test_prometheus_gets_metrics_and_nothing_else(proxy: LocalProxy) -> None:
    base = f"http://127.0.0.1:{proxy.metrics_port}"
    assert (
        b"envoy_http_downstream_rq_total" in urllib.request.urlopen(f"{base}/stats/prometheus", timeout=10).read()
    )
    for path in ("/", "/config_dump", "/quitquitquit"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{base}{path}", timeout=10)


def test_a_client_beyond_its_rate_is_told_when_to_come_again(strict: LocalProxy) -> None:
    """On both protocols, from one bucket; a new token comes after a minute."""
    for _ in range(TOKENS):
        assert strict.ask("GET", "/v2", **BEARER)[0] == 200
    status, headers, _ = strict.ask("GET", "/v2", **BEARER)
    assert (status, headers["retry-after"]) == (429, "1")
    with grpc_client(strict) as client, pytest.raises(InferenceServerException) as refused:
        client.is_server_live(headers={"authorization": f"Bearer {KEY}"})
    assert refused.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    assert strict.ask("GET", "/v2/health/live")[0] == 200


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_our_client_reaches_through(proxy: LocalProxy, scheme: str) -> None:
    url = f"{scheme}://localhost:{proxy.port}"
    with Client(url, token=KEY, ca_file=proxy.authority) as client:
        assert client.embed_texts(["red", "blue"]).shape == (2, 16)
    with Client(url, token="wrong", ca_file=proxy.authority) as client, pytest.raises(NotAuthorized):
        client.embed_texts(["red"])


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_our_client_comes_again_when_it_was_beyond_its_rate(
    measured_server: LaunchedServer, tmp_path: Path, scheme: str
) -> None:
    """Three tokens are for finding the model, and then there is one every three seconds."""
    bucket = {BUCKET: "{max_tokens: 3, tokens_per_fill: 1, fill_interval: 3s}"}
    with (
        local_proxy(tmp_path / "etc", measured_server.http_url, measured_server.grpc_url, bucket) as proxy,
        Client(f"{scheme}://localhost:{proxy.port}", token=KEY, ca_file=proxy.authority) as client,
    ):
        for _ in range(3):
            assert client.embed_texts(["red"]).shape == (1, 16)
        assert logged(proxy, "local_rate_limited")["client"] == CLIENT


@pytest.mark.parametrize(
    "path", ["/", "/search", "/docs", "/thumbnails/shop/a%20b.png", "/v1/embeddings", "/page/a.js"]
)
def test_what_the_gateway_answers_is_passed_on_with_a_key(proxy: LocalProxy, path: str) -> None:
    """Here a server stands in its place, which knows none of it."""
    assert proxy.ask("GET", path)[0] == 401
    status, headers, _ = proxy.ask("GET", path, None, **BEARER)
    assert (status, "x-envoy-upstream-service-time" in headers) == (404, True)

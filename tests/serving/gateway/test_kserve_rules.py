"""KServe v2 is a layer and no route: what holds for every request of a gateway holds for its requests too."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from running_gateway import Answer, RunningGateway, running_gateway
from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException

from protoclip.client import Client
from protoclip.client.errors import NotAuthorized

KEY = "correct-horse-battery-staple"
INFER = "/v2/models/a/infer"
NOBODY = "http://127.0.0.1:1"


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def post(running: RunningGateway, **headers: str) -> tuple[int, str]:
    answer = running.ask("POST", INFER, b"{}", {name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.headers["x-content-type-options"] == "nosniff"
    return answer.status, answer.json["code"]


def test_keys_names_origins_and_rates(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"shop {KEY}\n")
    with running_gateway(url=NOBODY, keys_file=keys, requests_per_s=0.001) as running:
        assert post(running) == (401, "unauthorized")
        assert post(running, X_API_Key="y" * 16) == (401, "unauthorized")
        assert post(running, X_API_Key=KEY, Host="evil.example") == (421, "unknown_host")
        assert post(running, X_API_Key=KEY, Origin="https://evil.example") == (403, "cross_origin")
        assert post(running, X_API_Key=KEY, X_Request_ID="mine-1") == (503, "unavailable")
        assert post(running, X_API_Key=KEY) == (429, "rate_limited")
        # Open to everybody, and not counted against a rate.
        assert running.get("/v2/health/ready").status == 503
        metrics = running.ask("GET", "/metrics", headers={"X-API-Key": KEY})
        assert metrics.status == 429
        wait_for(lambda: len(running.log) == 8)
        asked = [json.loads(line) for line in running.log]
    assert [line["status"] for line in asked] == [401, 401, 421, 403, 503, 429, 503, 429]
    assert (asked[4]["client"], asked[4]["request_id"], asked[4]["bytes_received"]) == ("shop", "mine-1", 2)


def test_bounds_and_counters() -> None:
    with running_gateway(url=NOBODY, body_bytes=1024, held_bytes=1024) as running:
        assert running.ask("POST", INFER, b"x" * 1025).json["code"] == "too_large"
        assert post(running, Content_Encoding="gzip") == (415, "unsupported_encoding")
        for method, path, allowed in (("PUT", INFER, "GET, HEAD, POST"), ("POST", "/v2", "GET, HEAD")):
            answer = running.ask(method, path, b"")
            assert (answer.status, answer.headers["allow"]) == (405, allowed)
        text = running.get("/metrics").body.decode()
    for status, number in ((413, 1), (415, 1), (405, 2)):
        labels = f'route="/v2/{{rest:path}}",status="{status}"'
        assert f"protoclip_gateway_requests_total{{{labels}}} {number}.0" in text
    assert "protoclip_gateway_held_bytes 0.0" in text


def test_a_client_that_goes_ends_the_request_to_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        with running_gateway(url=f"http://127.0.0.1:{server.getsockname()[1]}") as running:
            with socket.create_connection(("127.0.0.1", running.port), timeout=20) as client:
                head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"
                client.sendall(head.encode() + b"{}")
                asked = _one_that_infers(server)
            with asked:
                assert asked.recv(1) == b""
            wait_for(lambda: any('"status": 499' in line for line in running.log))


def test_a_server_that_restarts_in_mid_connection_is_away_and_then_back() -> None:
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as client:
        server.settimeout(20)
        with running_gateway(url=f"http://127.0.0.1:{server.getsockname()[1]}") as running:

            def ask() -> Future[Answer]:
                return client.submit(running.ask, "POST", INFER, b"{}")

            # It ends in the middle of an answer.
            asking = ask()
            with _one_that_infers(server) as asked:
                asked.sendall(good[:-1])
            answer = asking.result(20)
            assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "unavailable", "2")
            # It is back, answers, and ends while the connection waits for the next request.
            asking = ask()
            with _one_that_infers(server) as asked:
                asked.sendall(good)
                assert asking.result(20).status == 200
            asking = ask()
            with _one_that_infers(server) as asked:
                asked.sendall(good)
                assert asking.result(20).body == b"{}"


def test_our_clients_error_without_a_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"shop {KEY}\n")
    with running_gateway(url=NOBODY, keys_file=keys) as running:
        for token in (None, "y" * 16):
            with Client(running.url, token=token) as client, pytest.raises(NotAuthorized):
                client.embed_texts("a")
        with (
            InferenceServerClient(running.url.removeprefix("http://")) as tritons,
            pytest.raises(InferenceServerException, match="a key is needed"),
        ):
            tritons.get_server_metadata()


def _one_that_infers(server: socket.socket) -> socket.socket:
    """The gateway's connection with the request; others, by which it looks for models, are closed."""
    while True:
        asked, _ = server.accept()
        asked.settimeout(20)
        if INFER.encode() in asked.recv(1 << 16):
            return asked
        asked.close()

"""Addresses, tensors as bytes, budgets, retries, and servers that misbehave, on real sockets in both protocols."""

from __future__ import annotations

import socket
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from misbehaving_servers import (
    GOOD_HTTP,
    busy_at_first,
    grpc_server,
    http_server,
    send,
    stopping_at_first,
    tcp_server,
)

from protoclip.client import Client, DeadlineExceeded, ModelNotFound, Refused, Unavailable
from protoclip.client.connection import Address, connect, parse_url
from protoclip.client.deadline import Deadline, with_retries
from protoclip.client.errors import NobodyListens
from protoclip.client.tensor_bytes import OutputTensor, pack_bytes, read_answer, unpack_bytes
from protoclip.contract.errors import ConfigError, ServerError
from protoclip.contract.reasons import pack_reasons


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "parts"),
        [
            ("grpc://localhost:8001", ("grpc", "localhost", 8001)),
            ("http://10.0.0.7:80/", ("http", "10.0.0.7", 80)),
            ("grpc://triton", ("grpc", "triton", 8001)),
            ("http://triton", ("http", "triton", 8000)),
            ("http://[::1]:9000", ("http", "::1", 9000)),
            ("grpcs://triton", ("grpcs", "triton", 443)),
            ("https://triton", ("https", "triton", 443)),
            ("https://a:1/models/clip/", ("https", "a", 1, "/models/clip")),
        ],
    )
    def test_are_read(self, url: str, parts: tuple[str, str, int]) -> None:
        address = parse_url(url)
        assert address == Address(*parts)
        assert parse_url(str(address)) == address

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "localhost:8001",
            "ftp://a:1",
            "https://u:p@a:1",
            "https://a:1/x?y=z",
            "http://a:1/x y",
            "grpc://",
            "http://a:99999",
            "http://a:1/v2",
            "http://u@a:1",
            "grpc://a:b",
        ],
    )
    def test_others_are_refused_with_the_way_out(self, url: str) -> None:
        with pytest.raises(ConfigError, match="use grpc://host:port or http://host:port"):
            parse_url(url)


class TestWire:
    @given(st.lists(st.binary(max_size=40)))
    def test_bytes_survive(self, items: list[bytes]) -> None:
        assert unpack_bytes(pack_bytes(items)) == items

    def test_trailing_zeros_survive(self) -> None:
        assert pack_bytes([b"a\x00\x00", b""]) == b"\x03\x00\x00\x00a\x00\x00\x00\x00\x00\x00"

    @pytest.mark.parametrize("data", [b"\x01", b"\x02\x00\x00\x00a"])
    def test_cut_off_data_is_seen(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="cut off"):
            unpack_bytes(data)

    def test_an_answer_for_other_items_is_refused(self) -> None:
        tensors = {
            "embedding": OutputTensor("FP32", [2, 3], np.zeros((2, 3), "<f4").tobytes()),
            "error": OutputTensor("UINT8", [2, 256], bytes(512)),
        }
        assert read_answer("url", tensors, 2).embeddings.shape == (2, 3)
        with pytest.raises(ServerError, match="3 items were sent, and 2 came back"):
            read_answer("url", tensors, 3)
        with pytest.raises(ServerError, match="error"):
            read_answer("url", {"embedding": tensors["embedding"]}, 2)
        with pytest.raises(ServerError, match=r"error is INT32 \[2, 64\], which this version does not know"):
            read_answer("url", tensors | {"error": OutputTensor("INT32", [2, 64], bytes(512))}, 2)

    @pytest.mark.parametrize(
        "error",
        [
            OutputTensor("UINT8", [2, 256], pack_reasons(["", "no picture"]).tobytes()),
            OutputTensor("BYTES", [2, 1], pack_bytes([b"", b"no picture"])),
        ],
    )
    def test_reasons_are_read_from_this_and_from_earlier_repositories(self, error: OutputTensor) -> None:
        vectors = OutputTensor("FP32", [2, 3], np.zeros((2, 3), "<f4").tobytes())
        assert read_answer("url", {"embedding": vectors, "error": error}, 2).errors == ("", "no picture")


class TestRetries:
    def test_end_when_someone_answers(self) -> None:
        attempts = []

        def request(left_s: float | None) -> str:
            attempts.append(left_s)
            if len(attempts) < 3:
                raise Unavailable("nobody")
            return "there"

        assert with_retries(request, Deadline(20, "url")) == "there"
        assert len(attempts) == 3
        assert attempts == sorted(attempts, reverse=True), "every attempt has what is left of one budget"

    def test_end_after_four_attempts_where_nothing_has_ever_listened(self) -> None:
        attempts = []

        def request(left_s: float | None) -> None:
            attempts.append(left_s)
            raise NobodyListens("nobody")

        with pytest.raises(NobodyListens):
            with_retries(request, Deadline(None, "url"))
        assert attempts == [None] * 4

    @pytest.mark.parametrize(("error", "known"), [(NobodyListens("gone"), True), (Unavailable("busy"), False)])
    def test_of_a_server_that_was_there_go_on(self, error: Unavailable, known: bool) -> None:
        attempts = []

        def request(left_s: float | None) -> str:
            attempts.append(left_s)
            if len(attempts) < 6:
                raise error
            return "there"

        assert with_retries(request, Deadline(60, "url"), known) == "there"

    @pytest.mark.parametrize("error", [Refused("url", "no"), DeadlineExceeded("late"), ServerError("broken")])
    def test_are_for_nothing_else(self, error: ServerError) -> None:
        attempts = []

        def request(left_s: float | None) -> None:
            attempts.append(left_s)
            raise error

        with pytest.raises(type(error)):
            with_retries(request, Deadline(20, "url"))
        assert len(attempts) == 1

    def test_stay_within_the_budget(self) -> None:
        attempts = []

        def request(left_s: float | None) -> None:
            attempts.append(left_s)
            raise Unavailable("nobody")

        with pytest.raises((Unavailable, DeadlineExceeded)):
            with_retries(request, Deadline(0.12, "url"))
        assert len(attempts) <= 2, "the second pause is longer than what the first one leaves"

    def test_a_used_up_budget_is_told(self) -> None:
        deadline = Deadline(0.01, "grpc://a:1")
        time.sleep(0.02)
        with pytest.raises(
            DeadlineExceeded, match=r"grpc://a:1: the budget of 0.01 s is used up: raise timeout_s"
        ):
            deadline.remaining_s()


@pytest.mark.parametrize("scheme", ["grpc", "http"])
class TestBothProtocols:
    def test_nobody_there(self, scheme: str) -> None:
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            url = f"{scheme}://127.0.0.1:{reserved.getsockname()[1]}"
            start = time.monotonic()
            message = f"{url}: connection refused: is it running. start it with: protoclip serve"
            with Client(url, timeout_s=600) as client, pytest.raises(Unavailable, match=message):
                _ = client.model
        assert time.monotonic() - start < 60, "a refused connection must not cost the whole budget"

    def test_silence_ends_with_the_budget(self, scheme: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
            start = time.monotonic()
            with Client(url, timeout_s=0.5) as client, pytest.raises(DeadlineExceeded, match="raise timeout_s"):
                client.embed_texts("x")
            assert 0.4 < time.monotonic() - start < 60

    def test_a_busy_server_is_asked_again(self, scheme: str) -> None:
        with busy_at_first(scheme, times=2) as (url, count):
            transport = connect(url)
            assert with_retries(transport.ready_models, Deadline(10, url)) == ["tiny_012345_image"]
            transport.close()
            assert count() == 3

    def test_a_stopping_server_without_its_models_is_asked_again(self, scheme: str) -> None:
        with stopping_at_first(scheme, times=2) as (url, count):
            transport = connect(url)
            config = with_retries(
                lambda left_s: transport.model_config("tiny_012345_text", left_s), Deadline(10, url)
            )
            transport.close()
            assert config.name == "tiny_012345_text"
            assert count() == 3

    def test_closing_ends_calls_under_way(self, scheme: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent, futures.ThreadPoolExecutor(1) as pool:
            client = Client(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}", timeout_s=600)
            call = pool.submit(client.embed_texts, "x")
            time.sleep(0.3)
            client.close()
            with pytest.raises(ServerError, match="the client is closed"):
                call.result(60)

    def test_a_closed_client_says_so(self, scheme: str) -> None:
        client = Client(f"{scheme}://127.0.0.1:1")
        client.close()
        client.close()
        with pytest.raises(ServerError, match="the client is closed"):
            _ = client.model


def test_grpc_takes_answers_beyond_its_own_4_mib() -> None:
    with grpc_server([], 0, name="x" * (5 << 20)) as url:
        transport = connect(url)
        assert len(transport.ready_models(20)[0]) == 5 << 20
        transport.close()


class TestHttp:
    def test_a_dripping_answer_ends_with_the_budget(self) -> None:
        def drip(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            for _ in range(1200):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.05)

        with http_server(drip) as url:
            transport = connect(url)
            start = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                transport.ready_models(0.3)
            assert time.monotonic() - start < 30

    def test_a_kept_connection_that_the_server_closed_is_replaced(self) -> None:
        def answer_and_close(handler: BaseHTTPRequestHandler) -> None:
            send(handler, *GOOD_HTTP)
            handler.close_connection = True

        with http_server(answer_and_close) as url:
            transport = connect(url)
            for _ in range(3):
                assert with_retries(transport.ready_models, Deadline(5, url)) == ["tiny_012345_image"]
            transport.close()

    def test_many_kept_connections_that_the_server_closed_cost_one_retry(self) -> None:
        together = threading.Barrier(8)
        seen = []

        def answer_and_close(handler: BaseHTTPRequestHandler) -> None:
            seen.append(1)
            if len(seen) <= 8:
                together.wait(20)
            send(handler, *GOOD_HTTP)
            handler.close_connection = True

        with http_server(answer_and_close) as url, futures.ThreadPoolExecutor(8) as pool:
            transport = connect(url)
            assert len(list(pool.map(transport.ready_models, [20.0] * 8))) == 8
            assert with_retries(transport.ready_models, Deadline(20, url)) == ["tiny_012345_image"]
            transport.close()

    def test_connections_are_kept(self) -> None:
        ports = []

        def answer(handler: BaseHTTPRequestHandler) -> None:
            ports.append(handler.client_address[1])
            send(handler, *GOOD_HTTP)

        with http_server(answer) as url:
            transport = connect(url)
            for _ in range(3):
                transport.ready_models(5)
            transport.close()
        assert len(ports) == 3
        assert len(set(ports)) == 1

    def test_a_cut_off_answer_is_asked_for_again(self) -> None:
        seen = []

        def answer(handler: BaseHTTPRequestHandler) -> None:
            seen.append(1)
            if len(seen) > 1:
                return send(handler, *GOOD_HTTP)
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b"[]")
            handler.close_connection = True
            return None

        with http_server(answer) as url:
            transport = connect(url)
            assert with_retries(transport.ready_models, Deadline(5, url)) == ["tiny_012345_image"]
            transport.close()

    @pytest.mark.parametrize(
        ("status", "body", "kind", "message"),
        [
            (400, b'{"error": "picture is\\n too large"}', Refused, "refused the request: picture is too large$"),
            (400, b'{"error": "Request for unknown model: \'x\' is not found"}', ModelNotFound, "unknown model"),
            (404, b"", ModelNotFound, "status 404"),
            (500, b"<html>", ServerError, "status 500: <html>"),
            (200, b"<html>", ServerError, "not one of Triton"),
        ],
    )
    def test_refusals_are_told_apart(self, status: int, body: bytes, kind: type[Exception], message: str) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            send(handler, *((200, {}, b"") if handler.path == "/v2/health/ready" else (status, {}, body)))

        with http_server(answer) as url:
            transport = connect(url)
            with pytest.raises(kind, match=message) as caught:
                transport.ready_models(5)
            assert type(caught.value) is kind
            transport.close()

    def test_another_protocol_is_named(self) -> None:
        with (
            tcp_server(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\n") as url,
            pytest.raises(ServerError, match="port for gRPC"),
        ):
            connect(url).ready_models(5)

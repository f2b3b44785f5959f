"""Connections that stay open and carry nothing, before the real server."""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest
from misbehaving_relay import relay
from misbehaving_servers import grpc_server

from protoclip.client import Client, DeadlineExceeded, Unavailable
from protoclip.client.grpc_transport import GrpcTransport
from serving.triton.launcher import LaunchedServer

BUDGET_S = 30.0  # below the minute after which gRPC would notice by itself


def _port(server: LaunchedServer) -> int:
    return int(server.grpc_url.rsplit(":", 1)[1])


def _client(port: int) -> Client:
    return Client(transport=GrpcTransport("127.0.0.1", port, keepalive_s=1.0), timeout_s=BUDGET_S)


def test_one_that_goes_dead_is_left_within_the_call(triton: LaunchedServer) -> None:
    with relay(_port(triton)) as between, _client(between.port) as client:
        before = client.embed_texts(["a", "b"])
        num_before = between.num_connections
        assert num_before >= 1
        between.kill_connections()
        np.testing.assert_allclose(client.embed_texts(["a", "b"]), before, atol=1e-6)
        # More than one where a stall ended an attempt to connect.
        assert between.num_connections > num_before


def test_one_that_is_dead_from_the_start_is_left(triton: LaunchedServer) -> None:
    with relay(_port(triton), num_dead_at_first=1) as between, _client(between.port) as client:
        assert client.embed_texts("a").shape == (16,)
        assert between.num_connections >= 2


def test_a_server_that_never_answers_ends_with_the_budget() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        transport = GrpcTransport("127.0.0.1", silent.getsockname()[1], keepalive_s=0.2)
        with Client(transport=transport, timeout_s=3) as client, pytest.raises((Unavailable, DeadlineExceeded)):
            client.embed_texts("a")


def test_a_server_that_takes_its_time_is_not_taken_for_dead() -> None:
    seen: list[int] = []
    # The sign of life has half of keepalive_s: two seconds, which a stalled machine may need.
    with grpc_server(seen, 0, takes_s=7.0) as url:
        transport = GrpcTransport("127.0.0.1", int(url.rsplit(":", 1)[1]), keepalive_s=4.0)
        began = time.monotonic()
        assert transport.ready_models(BUDGET_S) == ["tiny_012345_image"]
        assert time.monotonic() - began >= 7.0
        transport.close()
    assert len(seen) == 1

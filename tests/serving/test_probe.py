"""When a model that does not answer is busy, not ready, or dead."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from protoclip.contract.errors import ServerError
from serving.triton.catalog import PublicModel
from serving.triton.probe import Pace, Probe
from serving.triton.readiness import ModelCounts
from serving.triton.server_log import ServerLog

MODEL = PublicModel("a_012345_text", "text", "a", "0" * 64, 16, 64, "fp32", True, ("part",))
PACE = Pace(interval_s=2.0, unready_s=5.0, stalled_s=15.0, longest_s=100.0)


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where connections are taken and nothing is answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def probe() -> Probe:
    """A probe at second 0."""
    probe = Probe(MODEL, PACE)
    probe.begin(0.0)
    return probe


def _counts(success: int = 0, fail: int = 0, executions: int = 0) -> dict[str, ModelCounts]:
    return {MODEL.name: ModelCounts(success, fail, 0), "part": ModelCounts(0, 0, executions)}


def _look(probe: Probe, port: int, *counts: dict[str, ModelCounts]) -> None:
    """Once for each of `counts`, a second apart, in which nothing is computed."""
    for second, each in enumerate(counts):
        probe.look(second, port, each, False)
        time.sleep(0.01)


def test_a_model_that_serves_its_clients_is_not_asked(probe: Probe) -> None:
    # Port 1 refuses connections: a request would fail.
    for second in range(60):
        probe.look(second, 1, _counts(success=second), False)
        time.sleep(0.001)
        assert probe.doubt(second) == ""


def test_one_failure_of_a_client_is_reason_to_ask(probe: Probe) -> None:
    for second in (0, 1):
        probe.look(second, 1, _counts(success=second), False)
    with pytest.raises(ServerError, match="no answer to a request for a test"):
        _look(probe, 1, *(_counts(success=second, fail=second) for second in range(2, 200)))
    assert "no answer to a request" in probe.doubt(3.0)


def test_an_unanswered_request_means_not_ready_and_then_dead(probe: Probe, silent: int) -> None:
    for second in (0, 1, 2, 3, 7):
        probe.look(second, silent, _counts(), False)
    assert probe.doubt(7.0) == ""
    assert probe.doubt(8.0) == "a_012345_text: no answer for 6 s"
    with pytest.raises(ServerError, match="no answer for 16 s, and nothing gets done"):
        probe.look(18.0, silent, _counts(), False)


def test_a_part_that_gets_something_done_keeps_a_model_alive(probe: Probe, silent: int) -> None:
    for second in range(0, 600, 4):
        probe.look(second, silent, _counts(executions=second), False)
        assert probe.doubt(second) == ""


def test_computing_keeps_a_model_alive_for_a_while_only(probe: Probe, silent: int) -> None:
    for second in range(0, 100):
        probe.look(second, silent, _counts(), True)
    assert "no answer for 97 s" in probe.doubt(99.0)
    with pytest.raises(ServerError, match="nothing gets done"):
        probe.look(103.0, silent, _counts(), True)


@pytest.fixture
def slow() -> Iterator[tuple[int, list[float]]]:
    """The port of a server that is busy, and says so after a tenth of a second; when it was asked."""
    asked: list[float] = []

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(time.monotonic())
            time.sleep(0.1)
            self.send_error(429)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port, asked
        server.shutdown()
        thread.join()


def test_a_model_that_takes_long_is_asked_less_often(slow: tuple[int, list[float]]) -> None:
    port, asked = slow
    probe = Probe(MODEL, Pace(interval_s=2.0, share=0.02, seldom_s=4.0))
    probe.begin(0.0)
    for second in range(10):
        probe.look(second, port, _counts(), False)
        time.sleep(0.15)
    # At 2 and, as the answer is noticed at 3, at 7; every 2 s it would be at 2, 5 and 8.
    assert 1 <= len(asked) <= 2


def test_a_pause_grows_with_what_a_request_took_up_to_a_limit() -> None:
    pace = Pace(interval_s=2.0, share=0.02, seldom_s=6.0)
    assert [pace.pause_s(took_s) for took_s in (0.0, 0.01, 0.06, 5.0)] == [2.0, 2.0, 3.0, 6.0]


def test_without_statistics_nothing_is_known_to_get_done(probe: Probe, silent: int) -> None:
    _look(probe, silent, *({} for _ in range(18)))
    with pytest.raises(ServerError, match="no answer for 16 s, and nothing gets done"):
        probe.look(18, silent, {}, False)


@pytest.mark.parametrize("body", [b"no JSON", b"{}", b'{"outputs": [{"name": "embedding"}]}'])
def test_an_answer_that_can_t_be_read_is_a_failure(probe: Probe, body: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        probe.look(2.0, server.getsockname()[1], _counts(), False)
        connection, _ = server.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        request = probe._request
        assert request is not None
        assert request.done.wait(60)
    probe.look(2.5, 1, _counts(), False)
    assert MODEL.name in probe.doubt(2.5)


def test_a_log_that_was_moved_away_is_begun_again(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "server.log", tmp_path, tmp_path)
    log.file.write_text("before\n")
    log.file.rename(tmp_path / "server.log.1")
    log.begin()
    assert log.read() == ""
    log.file.write_text("after\n")
    assert log.read() == "after\n"

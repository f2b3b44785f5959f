"""A server whose processes are killed or stopped serves again, under the same addresses."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protoclip import Client
from protoclip.contract.errors import ModelError, ServerError
from serving.triton import launcher
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.probe import Pace
from serving.triton.process import ServerProcess
from serving.triton.supervision import RestartLimit, Supervisor

QUICK = Pace(interval_s=0.3, unready_s=1.0, stalled_s=30.0)
WAIT_S = 90.0
MANY = 2000
TEXT = "tiny_012345_text"
ONE = (TEXT,)
"""One of the two public models, where no client is: half the workers to start."""
REQUEST = json.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["red shoes"]}]})


class Watched:
    """A supervised server, with what was reported and what ended supervision."""

    def __init__(self, server: TritonServer, launched: LaunchedServer, **settings: Any) -> None:
        self.server, self.launched = server, launched
        self.events: list[str] = []
        self.error: ServerError | None = None
        self._stopped = threading.Event()
        self._supervisor = Supervisor(server, self.events.append, **settings)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped.wait(0.05):
                self._supervisor.look()
        except ServerError as error:
            self.error = error

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def wait_for(self, event: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not self.reported(event) and self.error is None:
            assert time.monotonic() < deadline, self.events
            time.sleep(0.05)

    def reported(self, event: str) -> bool:
        return any(event in line for line in tuple(self.events))

    def wait_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not reached():
            assert time.monotonic() < deadline, self.events
            time.sleep(0.05)

    def worker(self, part: str) -> int:
        """The Python worker of a model: a child of the server that names it on its command line."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                session = int((folder / "stat").read_text().rpartition(")")[2].split()[3])
                command = (folder / "cmdline").read_bytes().decode()
            except (OSError, IndexError):
                continue
            if session == self.server.pid and "python_backend_stub" in command and part in command:
                return int(folder.name)
        raise AssertionError(f"no worker of {part}")

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, str], Any]:
        port = int(self.launched.http_url.rsplit(":", 1)[1])
        connection = HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        return response.status, dict(response.getheaders()), json.loads(data) if data else None

    def ready(self) -> int:
        return self.ask("GET", "/v2/health/ready")[0]

    def infer(self) -> tuple[int, dict[str, str], Any]:
        return self.ask("POST", f"/v2/models/{TEXT}/infer", REQUEST)


@contextmanager
def _watched(repository: Path, names: Sequence[str] = (), **settings: Any) -> Iterator[Watched]:
    server = TritonServer(repository, names=names)
    with server as launched:
        watched = Watched(server, launched, **settings)
        try:
            yield watched
        finally:
            watched.stop()


@pytest.fixture(scope="module")
def watched(tiny_repository: Path) -> Iterator[Watched]:
    """One server for all tests that end in its serving again."""
    with _watched(tiny_repository, pace=QUICK, limit=RestartLimit(100, pause_s=0.0)) as watched:
        yield watched


@pytest.fixture(scope="module")
def answers_as_before(watched: Watched) -> Iterator[Callable[[], bool]]:
    """Whether clients of both protocols, connected before anything happened, get what they got then."""
    with Client(watched.launched.grpc_url) as grpc, Client(watched.launched.http_url) as http:
        before = np.asarray(grpc.embed_texts(["red shoes"]))

        def same() -> bool:
            for client in (grpc, http):
                # Beside a request of supervision in one batch they differ in the last digits.
                np.testing.assert_allclose(client.embed_texts(["red shoes"]), before, atol=1e-5)
            return True

        yield same


def test_a_killed_worker_is_noticed_without_any_client_and_replaced(
    watched: Watched, answers_as_before: Callable[[], bool]
) -> None:
    watched.events.clear()
    os.kill(watched.worker(f"{TEXT}_preprocess"), signal.SIGKILL)
    # Its model has a second one, which would answer all that supervision asks.
    watched.wait_for("a worker has ended: starting the server again")
    watched.wait_for("answers again")
    assert answers_as_before()
    watched.wait_until(lambda: watched.ready() == 200)


def test_clients_that_ask_while_a_worker_dies_notice_nothing_but_time(
    watched: Watched, answers_as_before: Callable[[], bool]
) -> None:
    watched.events.clear()
    os.kill(watched.worker(f"{TEXT}_encoder"), signal.SIGKILL)
    # From the first moment on: Triton says of the dead process alone that it is not healthy.
    while not watched.reported("answers again"):
        assert answers_as_before()
        assert watched.error is None


def test_one_of_two_workers_that_is_killed_is_noticed(
    watched: Watched, answers_as_before: Callable[[], bool]
) -> None:
    watched.events.clear()
    os.kill(watched.worker("tiny_012345_image_preprocess"), signal.SIGKILL)
    watched.wait_for("answers again")
    assert answers_as_before()


def test_a_killed_server_is_replaced_and_clients_are_told_to_come_again(
    watched: Watched, answers_as_before: Callable[[], bool]
) -> None:
    watched.events.clear()
    os.kill(watched.server.pid, signal.SIGKILL)
    watched.wait_for("starting the server again")
    # The guard is told after the event was reported, and other reasons may come first.
    turned_away: list[tuple[int, dict[str, str], Any]] = []
    readiness = set()
    while not watched.reported("answers again") and len(turned_away) < MANY:
        turned_away.append(watched.infer())
        readiness.add(watched.ready())
        assert watched.ask("GET", "/v2/health/live")[0] == 200
        time.sleep(0.05)
    assert any(
        (status, headers.get("Retry-After"), answer) == (503, "5", {"error": "the server is started again"})
        for status, headers, answer in turned_away
    )
    assert 503 in readiness
    watched.wait_for("answers again")
    assert answers_as_before()
    assert watched.reported("exit code -9")


def test_a_worker_that_is_stopped_never_answers_again(
    watched: Watched, answers_as_before: Callable[[], bool]
) -> None:
    """When such a one went on, Triton ended, or answered a request with a wrong vector."""
    watched.events.clear()
    worker = watched.worker(f"{TEXT}_encoder")
    os.kill(worker, signal.SIGSTOP)
    watched.wait_for("a worker was stopped by a signal: starting the server again")
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGCONT)
    watched.wait_for("answers again")
    assert answers_as_before()


def test_a_killed_guard_is_replaced(watched: Watched) -> None:
    watched.events.clear()
    assert watched.server._guard is not None
    os.kill(watched.server._guard.pid, signal.SIGKILL)
    watched.wait_for("the guard ended with exit code -9 and was started again")
    watched.wait_until(lambda: watched.infer()[0] == 200)


def test_an_end_and_a_start_for_which_there_is_no_room_are_tried_again(
    watched: Watched, answers_as_before: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.events.clear()
    lay_out, errors = watched.server.live.lay_out, [OSError(errno.ENOSPC, "No space left on device")]
    errors.append(ModelError("a part is missing"))

    def full() -> None:
        if errors:
            raise errors.pop(0)
        lay_out()

    stop, refusals = ServerProcess.stop, [OSError(errno.EIO, "Input/output error")]

    def stuck(process: ServerProcess, *arguments: Any) -> None:
        if refusals:
            raise refusals.pop()
        stop(process, *arguments)

    monkeypatch.setattr(watched.server.live, "lay_out", full)
    monkeypatch.setattr(ServerProcess, "stop", stuck)
    os.kill(watched.server.pid, signal.SIGKILL)
    watched.wait_for("answers again")
    assert watched.error is None
    assert watched.reported("can't be started again: [Errno 28] No space left on device: starting the server")
    assert watched.reported("can't be started again: a part is missing: starting the server")
    assert watched.reported("can't be started again: [Errno 5] Input/output error: starting the server")
    assert answers_as_before()


def test_a_server_that_stays_stopped_is_given_up(tiny_repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A stopped one does not drain.
    monkeypatch.setattr(launcher, "STOP_S", 1.0)
    with _watched(tiny_repository, ONE, pace=Pace(0.3, 0.5, 4.0)) as watched:
        os.kill(watched.server.pid, signal.SIGSTOP)
        watched.wait_for("s, and nothing gets done: starting the server again")
        watched.wait_for("answers again")
        assert watched.infer()[0] == 200


def test_after_too_many_restarts_supervision_ends_with_the_reason(tiny_repository: Path) -> None:
    with _watched(tiny_repository, ONE, pace=QUICK, limit=RestartLimit(1, pause_s=0.0)) as watched:
        os.kill(watched.server.pid, signal.SIGKILL)
        watched.wait_for("answers again")
        os.kill(watched.server.pid, signal.SIGKILL)
        deadline = time.monotonic() + WAIT_S
        while watched.error is None and time.monotonic() < deadline:
            time.sleep(0.05)
    assert "exit code -9" in str(watched.error)
    assert "given up after 1 restarts within 600 s" in str(watched.error)


def test_a_busy_server_is_not_taken_for_a_dead_one(tiny_repository: Path) -> None:
    """Of a pace below what a stall of the machine takes: only a restart would tell it from one."""
    pace = Pace(interval_s=0.2, unready_s=0.5, stalled_s=15.0)
    with _watched(tiny_repository, pace=pace) as watched, Client(watched.launched.grpc_url) as client:
        texts = [f"a text of many words, number {number}, " + "word " * 50 for number in range(64)] * 20
        for _ in range(3):
            client.embed_texts(texts)
        assert not watched.reported("starting the server again")

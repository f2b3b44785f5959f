"""`protoclip gateway` and `protoclip serve --gateway` as a person or a script runs them."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from command_line import runner
from forked_python import ForkedPython
from gateway_shop import make_shop
from picture_bytes import saved, smooth

STOP_LIMIT_S = 20.0


@contextmanager
def started(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [sys.executable, "-m", "protoclip", *map(str, arguments), "--json"]
    with ForkedPython(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            yield process, json.loads(line)
        finally:
            if process.poll() is None:
                process.kill()


def ask(url: str, path: str, body: object = None) -> tuple[int, Any]:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_gateway_over_an_artifact_searches_and_stops(tiny_artifact: Path, tmp_path: Path) -> None:
    shop = make_shop(tmp_path, tiny_artifact)
    options = ("--port=0", f"--index=shop={shop.index}", f"--pictures=shop={shop.pictures}", "--log-json")
    with started("gateway", tiny_artifact, *options) as (process, facts):
        assert facts["indexes"] == ["shop"]
        assert ask(facts["url"], "/healthz")[0] == 200
        status, found = ask(facts["url"], "/search", {"text": "red", "k": 2})
        assert (status, len(found["hits"])) == (200, 2)
        process.send_signal(signal.SIGTERM)
        _, messages = process.communicate(timeout=STOP_LIMIT_S)
    assert process.returncode == 0, messages
    lines = [json.loads(line) for line in messages.splitlines() if line.startswith("{")]
    assert [line["path"] for line in lines] == ["/healthz", "/search"]
    assert "Traceback" not in messages


def test_what_is_not_there_yet_is_said_at_the_start(tiny_artifact: Path, tmp_path: Path) -> None:
    options = ("--port=0", f"--index=shop={tmp_path / 'none'}", f"--classes=kinds={tmp_path / 'no.classes'}")
    with started("gateway", tiny_artifact, *options) as (process, facts):
        assert ask(facts["url"], "/search", {"text": "red"})[0] >= 400
        process.send_signal(signal.SIGTERM)
        _, messages = process.communicate(timeout=STOP_LIMIT_S)
    assert process.returncode == 0, messages
    assert f"warning: index shop: {tmp_path / 'none'}: no index is here" in messages
    assert f"warning: classes kinds: {tmp_path / 'no.classes'}: no such file" in messages


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--index", "shop.index"], "--index shop.index: takes NAME=VALUE"),
        (["--index", "a=x", "--index", "a=y"], "--index a is given twice"),
        (["--pictures", "shop=photos"], "pictures names 'shop'"),
        (["--forward", "immich=nowhere"], "forward.immich: is no address"),
        (["--keys-file", "none"], "keys_file=none: can't be read"),
        (["--port", "70000"], "port: "),
        (["--host", "no.such.host.invalid"], "is no address"),
        (["--cors-origin", "*"], "every page on the web"),
    ],
)
def test_a_wrong_option_is_one_line(
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = runner(monkeypatch, capsys)("gateway", "grpc://127.0.0.1:1", *options)
    assert done.code == 2
    assert done.err.count("\n") == 1, done.err
    assert message in done.err


def test_a_taken_port_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = runner(monkeypatch, capsys)("gateway", "grpc://127.0.0.1:1", "--port", port)
    assert done.code == 2
    assert f"port={port} on 127.0.0.1 can't be used" in done.err


def test_options_of_the_gateway_without_it_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_repository: Path
) -> None:
    done = runner(monkeypatch, capsys)("serve", tiny_repository, "--index", "shop=shop.index")
    assert done.code == 2
    assert "add --gateway" in done.err


def test_serve_starts_a_gateway_beside_keeps_it_and_stops_it(tiny_repository: Path, tmp_path: Path) -> None:
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics", "gateway")]
    with started("serve", tiny_repository, "--gateway", *ports) as (process, facts):
        url = facts["gateway_url"]
        assert ask(url, "/healthz")[0] == 200
        assert ask(url, "/v2/models/tiny_012345_text")[1]["name"] == "tiny_012345_text"
        (first,) = _gateways(process.pid)
        os.kill(first, signal.SIGKILL)
        _wait_for(lambda: _gateways(process.pid) not in ([], [first]))
        # The socket is the command's: nobody was refused meanwhile.
        assert ask(url, "/healthz")[0] == 200
        # While the server itself is started again, what is asked of it waits, or is told to come again.
        os.kill(facts["pid"], signal.SIGKILL)
        picture = base64.b64encode(saved(smooth())).decode()
        answers = [ask(url, "/classify", {"pictures": [picture], "labels": ["red", "blue"]}) for _ in range(3)]
        assert {status for status, _ in answers} <= {200, 503}, answers
        _wait_for(lambda: ask(url, "/healthz")[0] == 200)
        process.send_signal(signal.SIGTERM)
        _, messages = process.communicate(timeout=STOP_LIMIT_S)
    assert process.returncode == 0, messages
    assert "the gateway ended with exit code -9 and was started again" in messages
    with pytest.raises(OSError):
        ask(url, "/healthz")


def _gateways(parent: int) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
            words = file.with_name("cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(fields[1]) == parent and b"serving.gateway" in words and fields[0] != "Z":
            found.append(int(file.parent.name))
    return found


def _wait_for(condition: Any) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)

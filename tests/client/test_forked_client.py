"""Clients in a process that is forked off, as web servers and data loaders do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serving.triton.launcher import LaunchedServer

PROGRAM = """
import os, signal, sys
from protoclip.client import Client
from protoclip.contract.errors import ServerError

url, when = sys.argv[1:]
client = Client(url, timeout_s=60)
if when != "unused":
    client.embed_texts(["a"] * 8)
pid = os.fork()
if pid == 0:
    signal.alarm(90)
    try:
        if when == "renewed":
            client = Client(url, timeout_s=60)
        print(client.embed_texts(["b"] * 100).shape)
        client.close()
    except ServerError as error:
        print(error)
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0, "the child waits for ever, or died"
print(client.embed_texts("c").shape)
client.close()
"""


def _run(url: str, when: str) -> list[str]:
    program = [sys.executable, "-c", PROGRAM, url, when]
    done = subprocess.run(program, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("when", ["unused", "used", "renewed"])
def test_http_works_in_both_processes(triton: LaunchedServer, when: str) -> None:
    assert _run(triton.http_url, when) == ["(100, 16)", "(16,)"]


def test_grpc_works_where_it_is_used_after_the_fork_alone(triton: LaunchedServer) -> None:
    assert _run(triton.grpc_url, "unused") == ["(100, 16)", "(16,)"]


@pytest.mark.parametrize("when", ["used", "renewed"])
def test_grpc_says_at_once_that_it_does_not_work(triton: LaunchedServer, when: str) -> None:
    told, after = _run(triton.grpc_url, when)
    assert told.startswith(f"{triton.grpc_url}: the client was in use when this process was forked off: gRPC does")
    assert "use http://" in told
    assert after == "(16,)"


@pytest.mark.parametrize("when", ["used", "renewed"])
def test_an_artifact_says_so_too(tiny_artifact: Path, when: str) -> None:
    told, after = _run(str(tiny_artifact), when)
    assert "when this process was forked off: encoders do not run then: make the first call after" in told
    assert after == "(16,)"

"""Services beside ours, each as a process on 127.0.0.1, and how they are asked. For `served_comparison.py`."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
from plain_service import Embed, Vector

START_S = 120.0
ANSWER_S = 60.0


@dataclass(frozen=True)
class Arm:
    """What is compared.

    Attributes:
        connect: opens a connection of a client's own, for the length of a block.
    """

    name: str
    connect: Callable[[], AbstractContextManager[Embed]]


@contextmanager
def plain_service(*arguments: str) -> Iterator[int]:
    """`plain_service.py` within the block; its port."""
    port = _free_port()
    script = Path(__file__).with_name("plain_service.py")
    with _running([sys.executable, str(script), *arguments, f"--port={port}"], port):
        yield port


@contextmanager
def infinity(program: Path, model: Path) -> Iterator[int]:
    """infinity in torch, as float32, on a folder of transformers, within the block; its port."""
    port = _free_port()
    options = ("--engine=torch", "--device=cpu", "--dtype=float32", "--served-model-name=model")
    command = [str(program), "v2", f"--model-id={model}", *options, "--host=127.0.0.1", f"--port={port}"]
    alone = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "PYTHONPATH": ""}
    with _running(command, port, alone):
        yield port


def asks_http(
    port: int, path: str, headers: Mapping[str, str], vector: Callable[[bytes], Vector]
) -> Callable[[], AbstractContextManager[Embed]]:
    """Posts the picture's bytes on a connection that stays open; `vector` reads the answer's body."""
    return _asks(port, path, headers, lambda picture: picture, vector)


def asks_infinity(port: int) -> Callable[[], AbstractContextManager[Embed]]:
    """The picture as a data address in JSON, and the vector as base64, as infinity takes and gives them."""

    def body(picture: bytes) -> bytes:
        address = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
        request = {"model": "model", "input": [address], "modality": "image", "encoding_format": "base64"}
        return json.dumps(request).encode()

    def vector(answer: bytes) -> Vector:
        return np.frombuffer(base64.b64decode(json.loads(answer)["data"][0]["embedding"]), np.float32)

    return _asks(port, "/embeddings", {"Content-Type": "application/json"}, body, vector)


def _asks(
    port: int,
    path: str,
    headers: Mapping[str, str],
    body: Callable[[bytes], bytes],
    vector: Callable[[bytes], Vector],
) -> Callable[[], AbstractContextManager[Embed]]:
    @contextmanager
    def connect() -> Iterator[Embed]:
        connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)

        def ask(picture: bytes) -> Vector:
            connection.request("POST", path, body(picture), dict(headers))
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise SystemExit(f"port {port}{path}: {response.status} {answer[:200]!r}")
            return vector(answer)

        try:
            yield ask
        finally:
            connection.close()

    return connect


@contextmanager
def _running(command: Sequence[str], port: int, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ) | (environment or {})
        )
        try:
            end = time.monotonic() + START_S
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise SystemExit(f"{command[:3]} does not listen: {log.read()[-2000:].decode()}")
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

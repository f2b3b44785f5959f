"""What the guard costs a request: the same requests through it and to Triton's own port, in turn.

python benchmarks/guard_latency.py REPOSITORY --result benchmarks/guard_latency_2cores_202611.md
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
from PIL import Image

from serving.triton.launcher import LaunchedServer, TritonServer

WARM_UP = 50


def own_port(server: LaunchedServer) -> int:
    """The port that Triton itself listens on: it is not given out, but stands on its command line."""
    arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode().split("\0")
    return int(next(value for value in arguments if value.startswith("--http-port=")).partition("=")[2])


def picture(pixels: int) -> bytes:
    """A PNG of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (pixels, pixels, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def text_body() -> bytes:
    """A text as JSON, as curl sends it."""
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["red shoes"]}
    return json.dumps({"inputs": [tensor]}).encode()


def sender(port: int, path: str, body: bytes | None, headers: dict[str, str]) -> Callable[[], float]:
    """Sends a request on a connection of its own, and gives the milliseconds to the end of the answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()

    def send() -> float:
        start = time.perf_counter()
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        return (time.perf_counter() - start) * 1e3

    return send


def compare(server: LaunchedServer, requests: int) -> list[str]:
    """Rows of the table."""
    names = {model.role: model.name for model in server.models}
    raw = {"Inference-Header-Content-Length": "0"}
    cases: list[tuple[str, str, bytes | None, dict[str, str]]] = [
        ("metadata", "/v2", None, {}),
        ("text", f"/v2/models/{names['text']}/infer", text_body(), {}),
        ("picture, 12 kB", f"/v2/models/{names['image']}/infer", picture(64), raw),
        ("picture, 190 kB", f"/v2/models/{names['image']}/infer", picture(250), raw),
    ]
    rows = []
    for name, path, body, headers in cases:
        ports = own_port(server), int(server.http_url.rsplit(":", 1)[1])
        senders = [sender(port, path, body, headers) for port in ports]
        times = np.array([[send() for send in senders] for _ in range(requests + WARM_UP)])[WARM_UP:]
        (d50, g50), (d99, g99) = np.percentile(times, (50, 99), axis=0)
        rows.append(f"| {name} | {d50:.2f} | {g50:.2f} | {g50 - d50:.2f} | {d99:.2f} | {g99:.2f} |")
    return rows


def main() -> None:
    """Writes a table in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--requests", type=int, default=1000, help="of each kind, on either way")
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    with TritonServer(arguments.repository) as server:
        rows = compare(server, arguments.requests)
    text = "\n".join(
        [
            "# What the guard costs a request",
            "",
            f"{arguments.requests} requests of each kind on either way, in turn, one at a time; milliseconds. "
            f"Python {platform.python_version()}, {platform.machine()}. By `benchmarks/guard_latency.py`.",
            "",
            "| request | direct p50 | guarded p50 | difference | direct p99 | guarded p99 |",
            "|---|---:|---:|---:|---:|---:|",
            *rows,
            "",
        ]
    )
    print(text)
    if arguments.result:
        arguments.result.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

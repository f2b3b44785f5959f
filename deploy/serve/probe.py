"""Asks every public model of a Triton for an embedding: a readiness that Triton itself does not have.

    python3 probe.py --url http://localhost:8000 --timeout 8

Exit code 0: each answered with a vector of length 1; otherwise 1, and one line on stderr that says which did not,
and why. Needs nothing but Python, so that it runs in the vendor's image.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import struct
import sys
import time
import urllib.error
import urllib.request
import zlib
from typing import Any

ROLES = ("image", "text")
BUSY = (429, 503)
FAULTS = (OSError, http.client.HTTPException, ValueError, LookupError, TypeError)
"""Of the connection, and of answers that are none."""
POLL_S = 0.25
TOLERANCE = 0.01


def main() -> int:
    """The probe as a command."""
    parser = argparse.ArgumentParser(description="Ask every public model of a Triton for an embedding.")
    parser.add_argument("--url", default="http://localhost:8000", help="the server's HTTP address")
    parser.add_argument("--timeout", type=float, default=8.0, help="seconds for all models together")
    options = parser.parse_args()
    deadline = time.monotonic() + options.timeout
    try:
        models = public_models(options.url, deadline)
        for model in models:
            check(options.url, model, deadline)
    except FAULTS as error:
        print(f"{options.url}: {error}", file=sys.stderr)
        return 1
    return 0


def public_models(url: str, deadline: float) -> list[str]:
    """The loaded models that clients ask; ValueError where there is none."""
    index = ask(f"{url}/v2/repository/index", b'{"ready": true}', {}, deadline)
    names = [model["name"] for model in index if model["name"].rpartition("_")[2] in ROLES]
    if not names:
        raise ValueError("no public model is loaded")
    return sorted(names)


def check(url: str, model: str, deadline: float) -> None:
    """ValueError where the model's answer to one small item is not an embedding."""
    role = model.rpartition("_")[2]
    item = b"ready" if role == "text" else picture()
    tensor = struct.pack("<I", len(item)) + item
    size = {"binary_data_size": len(tensor)}
    inputs = [{"name": role, "datatype": "BYTES", "shape": [1, 1], "parameters": size}]
    header = json.dumps({"inputs": inputs, "outputs": [{"name": "embedding"}]}).encode()
    lengths = {"Inference-Header-Content-Length": str(len(header))}
    try:
        answer = ask(f"{url}/v2/models/{model}/infer", header + tensor, lengths, deadline)
        vector = answer["outputs"][0]["data"]
        length = math.hypot(*vector)
    except FAULTS as error:
        raise ValueError(f"{model}: {error}") from error
    if not abs(length - 1) <= TOLERANCE:
        raise ValueError(f"{model}: its answer has the length {length}, not 1")


def ask(url: str, body: bytes, headers: dict[str, str], deadline: float) -> Any:
    """The answer's JSON; asks again while the server is busy, until the deadline."""
    while True:
        left = max(0.1, deadline - time.monotonic())
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=left) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            if error.code not in BUSY or time.monotonic() + POLL_S > deadline:
                raise ValueError(f"{error.code}: {error.read(300).decode('utf-8', 'replace')}") from error
        time.sleep(POLL_S)


def picture() -> bytes:
    """A grey PNG of 8 x 8 pixels."""
    rows = b"".join(b"\0" + bytes(range(0, 256, 32)) for _ in range(8))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


if __name__ == "__main__":
    sys.exit(main())

"""Odd HTTP requests for a server, each a function of its random numbers; `fuzz_server.py` sends them."""

from __future__ import annotations

import gzip
import io
import json
import random
import zlib
from dataclasses import dataclass

from PIL import Image

SHAPES = [
    [1, 1],
    [1],
    [],
    [0, 1],
    [-1, 1],
    [2, 1],
    [64, 1],
    [65, 1],
    [1, 1, 1],
    [2**32 + 1, 1],
    [2**62, 4],
    [1, -5],
]
DATATYPES = ["BYTES", "FP32", "INT32", "UINT8", "BF16", "BOOL", "", "XX", 7]
PARAMETERS = [
    "binary_data", "binary_data_size", "binary_data_output", "classification", "shared_memory_region",
    "shared_memory_byte_size", "shared_memory_offset", "sequence_id", "sequence_start", "sequence_end", "priority",
    "timeout", "headers", "x", "",
]  # fmt: skip
VALUES = [
    0,
    1,
    -1,
    3,
    64,
    2**31,
    2**62,
    10**30,
    1.5,
    True,
    False,
    None,
    "",
    "a",
    "x" * 2000,
    [],
    {},
    [[1]],
    {"a": {}},
]
PATHS = [
    "/v2", "/v2/health/ready", "/v2/health/live", "/v2/models/stats", "/v2/repository/index", "/", "*", "/metrics",
    "/v2/systemsharedmemory/status", "/v2/systemsharedmemory/region/x/register", "/v2/cudasharedmemory/status",
    "/v2/trace/setting", "/v2/logging", "/v2/models/{}/config", "/v2/models/{}/stats", "/v2/models/{}/ready",
    "/v2/models/{}/versions/9/infer", "/v2/models/{}/generate", "/v2/models/{}/generate_stream",
    "/v2/repository/models/{}/unload", "/v2/repository/models/{}/load", "/v2/models/../{}/infer",
    "/v2/models/%00/infer",
]  # fmt: skip
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "PATCH", "X" * 50]


ODD_HEADERS = [
    [f"X-{number}: y" for number in range(80)],
    ["X: " + "a" * 20_000],
    ["Connection: Upgrade", "Upgrade: h2c"],
    ["Expect: 100-continue"],
    ["Transfer-Encoding: gzip, chunked"],
    [" folded: 1"],
    ["Content-Length: 5"],
]


@dataclass(frozen=True)
class Sent:
    """What to do with a connection.

    Attributes:
        kind: for the table.
        pieces: sent one after the other.
        read: whether the answer is waited for; otherwise the connection is closed at once.
    """

    kind: str
    pieces: list[bytes]
    read: bool = True


def picture(rng: random.Random) -> bytes:
    """A small PNG, now and then cut off or with a wrong byte."""
    buffer = io.BytesIO()
    width, height = rng.choice([(1, 1), (8, 8), (40, 30), (200, 1)])
    grey = Image.frombytes("L", (width, height), rng.randbytes(width * height))
    grey.convert(rng.choice(["L", "RGB", "P", "1", "RGBA"])).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    if rng.random() < 0.3:
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)


def _nested(rng: random.Random) -> object:
    value: object = "a"
    for _ in range(rng.choice([1, 5, 40, 900])):
        value = [value]
    return value


def infer_json(rng: random.Random, role: str) -> dict[str, object]:
    """An inference request whose fields are mostly right."""
    tensor: dict[str, object] = {
        "name": role if rng.random() < 0.95 else rng.choice(["x", "", 5, "a" * 5000]),
        "datatype": "BYTES" if rng.random() < 0.9 else rng.choice(DATATYPES),
        "shape": [1, 1] if rng.random() < 0.9 else rng.choice(SHAPES),
        "data": ["red shoes"]
        if rng.random() < 0.8
        else rng.choice([[], "a", [1], [[["a"]]], [None], _nested(rng)]),
    }
    if rng.random() < 0.1:
        tensor["parameters"] = {rng.choice(PARAMETERS): rng.choice(VALUES)}
    if rng.random() < 0.05:
        del tensor[rng.choice(list(tensor))]
    request: dict[str, object] = {"inputs": [tensor] * rng.choice([1] * 30 + [0, 2, 40])}
    if rng.random() < 0.5:
        output: dict[str, object] = {"name": rng.choice(["embedding"] * 9 + ["error", "x"])}
        if rng.random() < 0.2:
            output["parameters"] = {rng.choice(PARAMETERS): rng.choice(VALUES)}
        request["outputs"] = [output]
    if rng.random() < 0.08:
        request["parameters"] = {rng.choice(PARAMETERS): rng.choice(VALUES)}
    if rng.random() < 0.05:
        request[rng.choice(["id", "x", "inputs"])] = rng.choice(VALUES)
    return request


def _text(rng: random.Random, role: str) -> bytes:
    text = bytearray(json.dumps(infer_json(rng, role)).encode())
    if rng.random() < 0.1:
        text[rng.randrange(len(text))] = rng.randrange(256)
    if rng.random() < 0.02:
        return b'{"inputs":' + rng.choice([b"[", b'{"a":']) * 100_000
    return bytes(text)


def _body(rng: random.Random, role: str) -> tuple[bytes, list[str]]:
    """A body and its headers."""
    if rng.random() < 0.3:
        return (picture(rng) if role == "image" else b"red shoes"), ["Inference-Header-Content-Length: 0"]
    if rng.random() < 0.1:
        return _pixels(rng)
    text = _text(rng, role)
    if rng.random() < 0.3:
        size = rng.choice([13, 13, 0, 12, 2**31])
        tensor = {"name": role, "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": size}}
        text = json.dumps({"inputs": [tensor]}).encode()
        length = len(text) if rng.random() < 0.7 else rng.choice([0, 1, len(text) - 1, len(text) + 99, -1, 10**20])
        return text + b"\x09\0\0\0red shoes", [f"Inference-Header-Content-Length: {length}"]
    return text, []


def _pixels(rng: random.Random) -> tuple[bytes, list[str]]:
    """Mostly right for an encoder of 32 x 32; to others a tensor that they have not."""
    size = rng.choice([3072] * 8 + [0, 1, 3071, 6144, 100_000])
    shape = rng.choice([[1, 32, 32, 3]] * 8 + [[2, 32, 32, 3], [1, 3072], [1, 2**31, 2**31, 3], [1, 32, 32, -3]])
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": shape}
    if rng.random() < 0.3:
        return json.dumps({"inputs": [tensor | {"data": [rng.choice([0, 255, 256, -1])] * size}]}).encode(), []
    text = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": size}}]}).encode()
    return text + rng.randbytes(size), [f"Inference-Header-Content-Length: {len(text)}"]


def _head(method: str, path: str, headers: list[str]) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode(
        "utf-8", "replace"
    )


def _chunks(rng: random.Random, body: bytes) -> list[bytes]:
    size = rng.choice([1, 7, 100, 4096])
    parts = [body[place : place + size] for place in range(0, len(body), size)] or [b""]
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part]
    end = rng.choice(
        [b"0\r\n\r\n"] * 6 + [b"", b"0\r\nX: 1\r\n\r\n", b"zz\r\n\r\n", b"-1\r\n\r\n", b"ffffffffffffffffff\r\n"]
    )
    return [b"".join(chunks), end] if rng.random() < 0.8 else [*chunks[:50], end]


def make_http(rng: random.Random, models: dict[str, str]) -> Sent:
    """One connection's worth."""
    role = rng.choice(["image", "text"])
    part = rng.choice([""] * 6 + ["_encoder", "_preprocess"])
    path = f"/v2/models/{models[role]}{part}{rng.choice(['', '', '', '/versions/1'])}/infer"
    body, headers = _body(rng, role)
    kind = rng.choices(
        ["body", "chunks", "compressed", "length", "route", "bytes", "head"], [40, 15, 10, 10, 10, 7, 8]
    )[0]
    read = rng.random() < 0.95
    if kind == "chunks":
        head = _head("POST", path, [*headers, "Transfer-Encoding: chunked"])
        return Sent("HTTP in chunks", [head, *_chunks(rng, body)], read)
    if kind == "compressed":
        name = rng.choice(["gzip", "deflate", "identity", "br", "gzip, gzip"])
        packed = zlib.compress(body) if name == "deflate" else gzip.compress(body)
        packed = packed[: rng.randrange(len(packed))] if rng.random() < 0.3 else packed
        headers = [*headers, f"Content-Encoding: {name}", f"Content-Length: {len(packed)}"]
        return Sent("HTTP compressed", [_head("POST", path, headers) + packed], read)
    if kind == "length":
        length = rng.choice([len(body) - 1, len(body) + 10, 0, -1, 2**40, "x", ""])
        pieces = [_head("POST", path, [*headers, f"Content-Length: {length}"]), body]
        return Sent("HTTP, another length", pieces, read)
    if kind == "route":
        other = rng.choice(PATHS).format(
            rng.choice([*models.values(), f"{models['text']}_encoder", "x", "a" * 3000])
        )
        return Sent("HTTP, other routes", [_head(rng.choice(METHODS), other, ["Content-Length: 2"]) + b"{}"], read)
    if kind == "bytes":
        noise = rng.randbytes(rng.choice([1, 20, 3000]))
        return Sent(
            "HTTP, no request",
            [rng.choice([noise, b"\r\n" * 50 + noise, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])],
            read,
        )
    if kind == "head":
        headers += rng.choice(ODD_HEADERS)
        return Sent(
            "HTTP, odd headers", [_head("POST", path, [*headers, f"Content-Length: {len(body)}"]) + body], read
        )
    return Sent("HTTP", [_head("POST", path, [*headers, f"Content-Length: {len(body)}"]) + body], read)

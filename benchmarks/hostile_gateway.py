"""Odd requests for a gateway, each a function of its random numbers; `fuzz_gateway.py` sends them."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from hostile_http import METHODS, ODD_HEADERS, VALUES, infer_json, picture

ODD_TEXTS = [
    "", " ", "red shoes", "a" * 20_000, "<script>alert(1)</script>", "\u202e\ufeff", "🙂" * 50, "%s%n{}",
    "../../etc/passwd",
    "'; DROP TABLE entries; --", "null", "\x7f", "http://127.0.0.1:1/a.png", "file:///etc/passwd",
]  # fmt: skip
PATHS = [
    "/", "/search", "/classify", "/indexes", "/classes", "/healthz", "/metrics", "/docs", "/openapi.json",
    "/nowhere",
    "/thumbnails/shop/", "/v2", "/v2/health/ready", "/v2/models/stats", "/v1/embeddings", "/v1/models", "/predict",
    "/ping", "/vectorize", "/meta", "/.well-known/ready", "//search", "/search/", "/%2e%2e/search",
    "/search%00", "*",
]  # fmt: skip
TYPES = [
    "application/json", "application/json; charset=utf-16", "text/plain", "", "multipart/form-data",
    "multipart/form-data; boundary=b; charset=punycode", "application/x-www-form-urlencoded", "a/b" * 100,
]  # fmt: skip
THUMBNAILS = [
    "..", ".", "", "/etc/passwd", "../../../../etc/passwd", "....//....//etc/passwd", "\0", "a" * 5000,
    "C:\\boot.ini", "~",
    "%2e%2e", "red\n.png", "\\\\host\\share",
]  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """What is sent on a connection of its own.

    Attributes:
        kind: for the table.
        data: the bytes.
        read: whether the answer is waited for; otherwise the connection is closed at once.
    """

    kind: str
    data: bytes = field(repr=False)
    read: bool = True


def make_request(rng: random.Random, ids: Sequence[str], model: str) -> Sent:
    """One request; `ids` are of the index `shop`."""
    makers = [_search, _classify, _dialect, _form, _thumbnail, _kserve, _bytes, _path, _page]
    kind, method, path, headers, body = rng.choices(makers, [4, 3, 4, 3, 2, 3, 1, 2, 3])[0](rng, ids, model)
    data = _message(rng, method, path, headers, body)
    if rng.random() < 0.05:
        return Sent(f"{kind}, given up", data[: rng.randrange(len(data) + 1)], read=False)
    if rng.random() < 0.05:
        position = rng.randrange(len(data))
        data = data[:position] + bytes([rng.randrange(256)]) + data[position + 1 :]
        kind = f"{kind}, a wrong byte"
    return Sent(kind, data)


_Request = tuple[str, str, str, dict[str, str], bytes]
JSON = {"Content-Type": "application/json"}


def _search(rng: random.Random, ids: Sequence[str], model: str) -> _Request:
    wanted: dict[str, object] = {"text": rng.choice(ODD_TEXTS), "index": "shop"}
    if rng.random() < 0.3:
        wanted["picture"] = _picture_text(rng)
    if rng.random() < 0.3:
        wanted["like"] = rng.choice([rng.choice(ids), list(ids[:3]), {rng.choice(ids): 0.5}, "none", {"a": -1}])
    if rng.random() < 0.3:
        wanted["where"] = _condition(rng, 0)
    if rng.random() < 0.3:
        wanted["group_by"] = rng.choice(["color", "", "price", "a" * 1000])
    if rng.random() < 0.3:
        wanted["k"], wanted["offset"] = rng.choice(VALUES), rng.choice([0, 1, 10**6])
    if rng.random() < 0.1:
        wanted["text"] = {text: rng.choice([1, 1e308, 1e-320, -1, True]) for text in rng.choices(ODD_TEXTS, k=3)}
    return "search", "POST", "/search", JSON, _json(rng, wanted)


def _classify(rng: random.Random, ids: Sequence[str], model: str) -> _Request:
    wanted: dict[str, object] = {
        "pictures": [_picture_text(rng) for _ in range(rng.choice([0, 1, 1, 3]))],
        "labels": rng.choice([["red", "blue"], ["a"], [], ODD_TEXTS, ["a", "a"], "red", [1]]),
        "templates": rng.choice(["plain", "photo", "none", ["{}"], ["{} {}"], [], 7]),
    }
    if rng.random() < 0.3:
        wanted["multi_label"], wanted["threshold"] = True, rng.choice([0.1, -2, None, "a"])
    return "classify", "POST", "/classify", JSON, _json(rng, wanted)


def _dialect(rng: random.Random, ids: Sequence[str], model: str) -> _Request:
    image, text = _picture_text(rng), rng.choice(ODD_TEXTS)
    data_uri = f"data:image/png;base64,{image}"
    path, wanted = rng.choice(
        [
            (
                "/v1/embeddings",
                {"model": rng.choice([model, "", "other", 7]), "input": rng.choice([text, [text], [], [1, 2]])},
            ),
            (
                "/v1/embeddings",
                {"model": model, "input": [{"image": data_uri}], "encoding_format": rng.choice(VALUES)},
            ),
            (
                "/v1/embeddings",
                {"model": model, "input": data_uri, "modality": "image", "dimensions": rng.choice(VALUES)},
            ),
            ("/vectorize", {"texts": [text], "images": rng.choice([[image], [], image, [data_uri]])}),
        ]
    )
    return f"dialect {path}", "POST", path, JSON, _json(rng, dict(wanted))


def _form(rng: random.Random, ids: Sequence[str], model: str) -> _Request:
    entries = {"clip": {rng.choice(["visual", "textual", "x"]): {"modelName": rng.choice([model, "x"])}}}
    path, fields, files = rng.choice(
        [
            ("/search", {"text": rng.choice(ODD_TEXTS), "k": "3"}, {"picture": picture(rng)}),
            ("/classify", {"labels": "red\nblue"}, {"a": picture(rng)}),
            ("/predict", {"entries": json.dumps(entries)}, {"image": picture(rng)}),
            ("/predict", {"entries": rng.choice(ODD_TEXTS), "text": rng.choice(ODD_TEXTS)}, {}),
        ]
    )
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ] * rng.choice([1, 1, 1, 2, 60])
    for name, content in files.items():
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n'
        parts.append(head.encode() + b"Content-Type: image/png\r\n\r\n" + content + b"\r\n")
    body = b"".join(parts) + rng.choice([b"--b--\r\n", b"--b--\r\n", b"", b"--b", b"--c--\r\n"])
    boundary = rng.choice(["b", "b", "b", "c", "", "b; charset=punycode"])
    return f"form {path}", "POST", path, {"Content-Type": f"multipart/form-data; boundary={boundary}"}, body


def _thumbnail(rng: random.Random, ids: Sequence[str], model: str) -> _Request:
    entry = rng.choice([rng.choice(ids), rng.choice(THUMBNAILS), rng.randbytes(5).hex()])
    shown = quote(entry.encode("utf-8", "surrogatepass"), safe=rng.choice(["", "/.", "/.%"]))
    index = rng.choice(["shop", "shop", "shop", "other", "..", "%2e%2e"])
    return "thumbnail", rng.choice(["GET", "GET", "HEAD"]), f"/thumbnails/{index}/{shown}", {}, b""


def _kserve(rng: random.Random, ids: Sequence[str], model: str) -> _Request:
    role = rng.choice(["image", "text"])
    path = rng.choice(
        [f"/v2/models/{model}_{role}/infer"] * 3 + ["/v2/models/none/infer", "/v2/repository/index", "/v2/logging"]
    )
    return "KServe", "POST", path, JSON, _json(rng, infer_json(rng, role))


def _bytes(rng: random.Random, ids: Sequence[str], model: str) -> _Request:
    path = rng.choice(
        ["/search", "/classify", "/v1/embeddings", "/predict", "/vectorize", f"/v2/models/{model}_text/infer"]
    )
    body = rng.choice(
        [rng.randbytes(300), b"[" * 5000, b'{"a":' * 500, b"", b"\xff\xfe", b"null", b"[" + b"[]," * 9000 + b"0]"]
    )
    return "bytes", "POST", path, {"Content-Type": rng.choice(TYPES)}, body


def _path(rng: random.Random, ids: Sequence[str], model: str) -> _Request:
    path = rng.choice(PATHS) + rng.choice(["", "", "", "?a=b", "?" + "x" * 3000, "#a", "%"])
    return "path", rng.choice(METHODS), path, {}, b""


def _page(rng: random.Random, ids: Sequence[str], model: str) -> _Request:
    text = [quote(one) for one in ODD_TEXTS] + ["%ff", "%ed%a0%80", "%00", "+" * 50]
    number = ["0", "-1", "2", "999999999", "1e999", "nan", "%D9%A3", "9" * 500, ""]
    fields = [
        f"q={rng.choice(text)}",
        f"page={rng.choice(number)}",
        f"view={rng.choice(['map', 'clusters', 'search', 'x', ''])}",
        f"cluster={rng.choice(number)}",
        f"like={quote(rng.choice(ids).encode('utf-8', 'surrogatepass'))}",
        f"unlike={rng.choice(text)}",
        f"labels={rng.choice(['red,blue', 'a', ',' * 900, *text])}",
        f"templates={rng.choice(['photo', 'x', '{}'])}",
        f"least:price={rng.choice(number)}",
        f"is:{rng.choice(['color', '', '%00', 'a' * 900])}={rng.choice(text)}",
        f"colour={rng.choice(['color', 'price', *text])}",
        f"picture={rng.choice(text)}",
        f"index={rng.choice(['shop', 'shop', 'other', '..'])}",
    ]
    query = "&".join(rng.choices(fields, k=rng.choice([1, 2, 3, 5, 300])))
    path = rng.choice(["/", "/", "/", "/page/points", "/page/picture/x"])
    headers = rng.choice([{}, {}, {"Accept": "application/json"}, {"Origin": "https://a.example"}])
    return "page", rng.choice(["GET", "GET", "GET", "POST"]), f"{path}?{query}", headers, b""


def _picture_text(rng: random.Random) -> str:
    encoded = base64.b64encode(picture(rng)).decode()
    return rng.choice(
        [
            encoded,
            encoded,
            f"data:image/png;base64,{encoded}",
            f"data:image/svg+xml;base64,{base64.b64encode(b'<svg/>').decode()}",
            "data:,",
            "data:image/png,abc",
            encoded[: len(encoded) // 2],
            rng.choice(ODD_TEXTS),
        ]
    )


def _condition(rng: random.Random, depth: int) -> object:
    if depth < rng.choice([1, 2, 30]) and rng.random() < 0.5:
        return {rng.choice(["and", "or"]): [_condition(rng, depth + 1) for _ in range(rng.choice([0, 1, 2]))]}
    operator = rng.choice(["lt", "le", "eq", "ne", "in", "exists", "below", ""])
    return {
        rng.choice(["price", "color", "", "\0", "a" * 500]): rng.choice(
            [{operator: rng.choice(VALUES)}, rng.choice(VALUES)]
        )
    }


def _json(rng: random.Random, wanted: dict[str, object]) -> bytes:
    if rng.random() < 0.2 and wanted:
        wanted[rng.choice(list(wanted))] = rng.choice(VALUES)
    if rng.random() < 0.1:
        wanted[rng.choice(["x", "", "__proto__", "a" * 3000])] = rng.choice(VALUES)
    data = json.dumps(wanted, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    return data[: rng.randrange(len(data))] if rng.random() < 0.05 else data


def _message(rng: random.Random, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if rng.random() < 0.05:
        lines += rng.choice(ODD_HEADERS)
    chunked = rng.random() < 0.1
    if chunked:
        lines.append("Transfer-Encoding: chunked")
        size = rng.choice([1, 7, 1000])
        pieces = [body[start : start + size] for start in range(0, min(len(body), 3000), size)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + rng.choice(
            [b"0\r\n\r\n", b"0\r\n\r\n", b"ZZ\r\n"]
        )
    elif body or method == "POST":
        length = len(body) + rng.choice([0] * 20 + [-1, 1, 10**9])
        lines.append(f"Content-Length: {max(0, length)}")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body

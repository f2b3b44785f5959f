"""What is asked of a gateway when its cost is measured: the same work through it, and straight at its Triton."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
from PIL import Image

from protoclip.cli.gateway_beside import GatewayBeside
from protoclip.client import Client
from protoclip.search import Index
from serving.gateway.settings import make_settings
from serving.triton.launcher import TritonServer
from serving.triton.repository import write_repository

CONCURRENCY = 16
ENTRIES = 1000
Work = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """One kind of work on both ways; each maker gives what one thread calls again and again."""

    name: str
    straight: Callable[[], Work]
    through: Callable[[], Work]


@contextmanager
def running(artifact: Path) -> Iterator[tuple[list[Case], int]]:
    """All cases, on a Triton and a gateway of its own within the block; and the gateway's process id."""
    with tempfile.TemporaryDirectory() as folder:
        write_repository(artifact, Path(folder) / "repository")
        with (
            TritonServer(Path(folder) / "repository") as server,
            Client(server.grpc_url, concurrency=CONCURRENCY) as grpc,
            Client(server.http_url, concurrency=CONCURRENCY) as http,
        ):
            index = _index(Path(folder) / "index", grpc)
            settings = make_settings(
                url=server.grpc_url,
                kserve_url=server.http_url,
                port=0,
                indexes={"shop": index.path},
                log_json=True,
            )
            gateway = GatewayBeside(settings)
            try:
                gateway.wait_until_ready(60)
                yield cases(grpc, http, index, gateway.url), gateway.pid
            finally:
                gateway.stop()


def _index(path: Path, client: Client) -> Index:
    index = Index.create(path, client.model.fingerprint, client.model.embedding_dim)
    vectors = np.random.default_rng(0).standard_normal((ENTRIES, client.model.embedding_dim))
    index.add(vectors, [str(number) for number in range(ENTRIES)])
    return index


def photo(width: int, height: int) -> bytes:
    """A JPEG with smooth parts and noise, as a camera's."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    planes = np.stack([255 * x / width, 255 * y / height, 128 + 60 * np.sin(x / 30)], axis=-1)
    noisy = np.clip(planes + rng.normal(0, 8, planes.shape), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def poster(port: int, path: str, body: bytes, headers: dict[str, str]) -> Callable[[], Work]:
    """Posts on a connection that each thread keeps."""

    def make() -> Work:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.connect()

        def post() -> None:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text[:300]

        return post

    return make


def form(picture: bytes) -> tuple[bytes, dict[str, str]]:
    """A search by a picture, as a form."""
    head = b'--b\r\nContent-Disposition: form-data; name="picture"; filename="a.jpg"\r\n\r\n'
    return head + picture + b"\r\n--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


def cases(grpc: Client, http: Client, index: Index, gateway_url: str) -> list[Case]:
    """Pictures of two sizes and texts; by KServe and by search."""
    port = int(gateway_url.rpartition(":")[2])
    large, small = photo(1000, 750), photo(300, 225)
    through = Client(gateway_url, concurrency=CONCURRENCY)
    json_type = {"Content-Type": "application/json"}
    text = json.dumps({"text": "red shoes"}).encode()
    return [
        Case(
            "KServe, picture 1000 × 750",
            lambda: lambda: _embed(http, large),
            lambda: lambda: _embed(through, large),
        ),
        Case(
            "KServe, picture 300 × 225",
            lambda: lambda: _embed(http, small),
            lambda: lambda: _embed(through, small),
        ),
        Case("KServe, text", lambda: lambda: _embed_text(http), lambda: lambda: _embed_text(through)),
        Case(
            "search by picture 1000 × 750",
            lambda: lambda: _search(grpc, index, image=large),
            poster(port, "/search", *form(large)),
        ),
        Case(
            "search by picture 300 × 225",
            lambda: lambda: _search(grpc, index, image=small),
            poster(port, "/search", *form(small)),
        ),
        Case(
            "search by text",
            lambda: lambda: _search(grpc, index, text="red shoes"),
            poster(port, "/search", text, json_type),
        ),
    ]


def _embed(client: Client, picture: bytes) -> None:
    client.embed_images(picture)


def _embed_text(client: Client) -> None:
    client.embed_texts("red shoes")


def _search(client: Client, index: Index, **wanted: object) -> None:
    client.search(index, **wanted)  # type: ignore[arg-type]


def cpu_s(pid: int) -> float:
    """What a process has used of the processor, user and system; other work on the machine hardly changes it."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

"""`GET /thumbnails/…`: small pictures of entries, and nothing that lies elsewhere, however it is asked for."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from gateway_shop import NO_UTF8, ODD_NAME, Shop, picture
from PIL import Image
from running_gateway import RunningGateway, running_gateway

from protoclip.search import Index
from serving.gateway.errors import Refused
from serving.gateway.thumbnails import Thumbnails

SECRET = picture((1, 2, 3), 5)


def path(entry: str) -> str:
    return f"/thumbnails/shop/{quote(os.fsencode(entry), safe='')}"


@pytest.mark.parametrize("entry", ["red0.png", "sub/blue.png", ODD_NAME, NO_UTF8])
def test_a_search_names_the_thumbnail_of_each_hit(gateway: RunningGateway, entry: str) -> None:
    hits = gateway.post("/search", {"text": "x", "k": 12}).json["hits"]
    (named,) = (hit["thumbnail"] for hit in hits if hit["id"] == entry)
    answer = gateway.get(named)
    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(answer.body)) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (40, 40), "RGB")
    again = gateway.ask("GET", named, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    head = gateway.ask("HEAD", named)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(answer.body)))


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[RunningGateway]:
    """An index whose ids ask for files outside of its folder, and for what is no picture."""
    pictures, outside = tmp_path / "pictures", tmp_path / "outside"
    pictures.mkdir()
    outside.mkdir()
    (outside / "secret.png").write_bytes(SECRET)
    (pictures / "not listed.png").write_bytes(SECRET)
    (pictures / "inside.png").write_bytes(SECRET)
    (pictures / "link in.png").symlink_to(pictures / "inside.png")
    (pictures / "link out.png").symlink_to(outside / "secret.png")
    (pictures / "folder out").symlink_to(outside)
    (pictures / "loop.png").symlink_to(pictures / "loop.png")
    (pictures / "text.png").write_bytes(b"no picture")
    (pictures / "svg.png").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    (pictures / "bomb.png").write_bytes(_bomb())
    os.mkfifo(pictures / "pipe.png")
    ids = [
        "../outside/secret.png",
        str(outside / "secret.png"),
        str(pictures / "inside.png"),
        "a/../../outside/secret.png",
        "folder out/secret.png",
        "..",
        ".",
        "",
        "nul\0.png",
        "x" * 5000,
        *(file.name for file in pictures.iterdir() if file.name != "not listed.png"),
    ]
    with Index.create(tmp_path / "odd.index", "0123456789abcdef", 4) as index:
        index.add(np.eye(4, dtype=np.float32)[np.arange(len(ids)) % 4], ids)
    with running_gateway(
        url="grpc://127.0.0.1:1", indexes={"shop": tmp_path / "odd.index"}, pictures={"shop": (pictures,)}
    ) as running:
        yield running


def test_what_lies_elsewhere_or_is_no_picture_is_not_shown(odd: RunningGateway, tmp_path: Path) -> None:
    for entry in ("inside.png", "link in.png", str(tmp_path / "pictures" / "inside.png")):
        assert odd.get(path(entry)).status == 200, entry
    refused = [
        "../outside/secret.png",
        str(tmp_path / "outside" / "secret.png"),
        "a/../../outside/secret.png",
        "folder out/secret.png",
        "link out.png",
        "loop.png",
        "..",
        ".",
        "",
        "nul\0.png",
        "x" * 5000,
        "not listed.png",
        "text.png",
        "svg.png",
        "bomb.png",
        "pipe.png",
        "folder out",
    ]
    answers = {entry: odd.get(path(entry)) for entry in refused}
    assert {answer.status for answer in answers.values()} == {404}
    # One and the same answer: it does not say whether a file is there.
    assert len({answer.body for answer in answers.values()}) == 1


def test_a_picture_is_not_shown_after_its_entry_was_removed(odd: RunningGateway, tmp_path: Path) -> None:
    """A browser that has it asks each time, and gets none, whatever it shows that it has."""
    before = odd.get(path("inside.png"))
    assert (before.status, before.headers["cache-control"]) == (200, "private, no-cache")
    with Index.open(tmp_path / "odd.index") as index:
        index.remove(["inside.png"])
    after = odd.ask("GET", path("inside.png"), headers={"If-None-Match": before.headers["etag"]})
    assert (after.status, after.headers["cache-control"]) == (404, "no-store")


def test_a_path_is_never_a_place_on_the_disk(odd: RunningGateway) -> None:
    for way in (
        "/thumbnails/shop/../../../../etc/passwd",
        "/thumbnails/shop/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/thumbnails/shop/..%5c..%5cetc",
        "/thumbnails/shop//etc/passwd",
        "/thumbnails/..%2fshop/inside.png",
        "/thumbnails/other/inside.png",
        "/thumbnails/shop/%ff%fe",
        "/thumbnails/shop/%",
        "/thumbnails/shop/%00",
        "/thumbnails/shop",
        "/thumbnails/",
    ):
        assert odd.get(way).status == 404, way


def test_an_index_without_folders_has_none(tiny_artifact: Path, shop: Shop) -> None:
    with running_gateway(url=str(tiny_artifact), indexes={"shop": shop.index}) as running:
        assert running.get(path("red0.png")).status == 404
        assert running.post("/search", {"text": "x", "k": 1}).json["hits"][0]["thumbnail"] is None


def test_large_pictures_become_small_and_no_more_is_kept_than_allowed(tmp_path: Path) -> None:
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 256, (300, 900, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.jpg")
    thumbnails = Thumbnails(100, 30_000)
    made = [thumbnails.make((tmp_path,), f"{number}.jpg") for number in range(4)]
    with Image.open(io.BytesIO(made[0])) as image:
        assert image.size == (100, 33)
    assert sum(map(len, thumbnails._kept.values())) == thumbnails._bytes <= 30_000
    assert thumbnails.make((tmp_path,), "3.jpg") is made[3]
    (tmp_path / "3.jpg").write_bytes((tmp_path / "0.jpg").read_bytes())
    assert thumbnails.make((tmp_path,), "3.jpg") == made[0]


def _bomb() -> bytes:
    """The head of a PNG of 900 million pixels."""
    body = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    head = b"IHDR" + body
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def test_one_name_in_two_folders_is_nobodys_picture(tmp_path: Path) -> None:
    roots = (tmp_path / "a", tmp_path / "b")
    for number, root in enumerate(roots):
        root.mkdir()
        (root / "both.png").write_bytes(picture((200, 10, 10), number))
        (root / f"{number}.png").write_bytes(picture((10, 10, 200), number))
    thumbnails = Thumbnails(40, 10_000)
    assert thumbnails.make(roots, "1.png").startswith(b"\xff\xd8")
    # The same file by two ways is one.
    assert thumbnails.make((roots[0], tmp_path / "a"), "both.png").startswith(b"\xff\xd8")
    with pytest.raises(Refused, match="no picture to show"):
        thumbnails.make(roots, "both.png")

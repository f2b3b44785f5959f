"""Open files as pictures: each is one, from where it stands; what can't be read is that item's error alone."""

from __future__ import annotations

import io
import mmap
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protoclip.client import Client, InMemoryTransport, MemoryModel
from protoclip.client.errors import BadItem
from protoclip.client.inputs import image_bytes, image_items, text_items
from protoclip.contract.errors import ConfigError, ItemError
from protoclip.contract.pixels import PixelSpec, load_pixels


def _png() -> bytes:
    stream = io.BytesIO()
    # With line feeds in it: the lines of a file are no pictures.
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


PNG = _png()
assert PNG.count(b"\n") > 3


class _Upload:
    """As a web framework's: `read` alone, and no size."""

    def read(self) -> bytes:
        return PNG


class _Trickle(io.RawIOBase):
    """Gives a few bytes at a time, as a socket does."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._data.read(min(7, len(buffer)))
        buffer[: len(part)] = part
        return len(part)


class _Endless:
    def __init__(self) -> None:
        self.num_given = 0

    def read(self, size: int) -> bytes:
        part = bytes(min(size, 1 << 20))
        self.num_given += len(part)
        return part


class _Fails:
    def __init__(self, answer: object) -> None:
        self._answer = answer

    def read(self, size: int) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class _Asynchronous:
    async def read(self, size: int = -1) -> bytes:
        return PNG


@pytest.fixture
def client() -> Iterator[Client]:
    """The vector is the mean colour."""
    spec = PixelSpec(8, 8)
    model = MemoryModel(lambda data: load_pixels(data, spec).mean(axis=(0, 1)) + 1.0, lambda text: np.ones(3), 3)
    with Client(transport=InMemoryTransport(model), batch_size=2) as client:
        yield client


@pytest.fixture
def files(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Open files of every kind that hold the picture."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "a.png")
    archive = zipfile.ZipFile(tmp_path / "a.zip")
    spooled = tempfile.SpooledTemporaryFile()  # noqa: SIM115  closed below
    spooled.write(PNG)
    spooled.seek(0)
    reading, writing = os.pipe()
    os.write(writing, PNG)
    os.close(writing)
    opened = {
        "buffered": path.open("rb"),
        "raw": path.open("rb", buffering=0),
        "memory": io.BytesIO(PNG),
        "spooled": spooled,
        "zip": archive.open("a.png"),
        "pipe": os.fdopen(reading, "rb"),
        "trickle": _Trickle(PNG),
    }
    with path.open("rb") as file:
        opened["mapped"] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    yield {**opened, "upload": _Upload()}
    for file in opened.values():
        file.close()
    archive.close()


def test_each_is_one_picture_alone_and_in_a_list(client: Client, files: dict[str, Any]) -> None:
    expected = client.embed_images(PNG)
    vectors = client.embed_images([*files.values(), io.BytesIO(PNG)])
    np.testing.assert_array_equal(vectors, np.stack([expected] * (len(files) + 1)))
    files["buffered"].seek(0)
    for file in (files["buffered"], io.BytesIO(PNG), _Upload()):
        assert client.embed_images(file).shape == (3,)
    assert client.classify(io.BytesIO(PNG), ["a", "b"]).score == pytest.approx(0.5)


def test_is_read_from_where_it_stands_and_stays_open() -> None:
    file = io.BytesIO(b"head" + PNG)
    file.seek(4)
    assert image_bytes(file) == PNG
    assert not file.closed
    with pytest.raises(BadItem, match=r"the BytesIO gives 0 bytes: it is empty, or stands at its end: seek\(0\)"):
        image_bytes(file)


def test_is_read_no_further_than_the_limit() -> None:
    file = _Endless()
    with pytest.raises(BadItem, match="the _Endless gives more than 33554432 bytes"):
        image_bytes(file)
    assert file.num_given == PixelSpec.max_bytes + 1


def test_what_cannot_be_read_is_its_own_error(client: Client, tmp_path: Path) -> None:
    closed = io.BytesIO(PNG)
    closed.close()
    (tmp_path / "a.txt").write_text("red")
    same = io.BytesIO(PNG)
    with (
        (tmp_path / "a.txt").open() as text,
        (tmp_path / "b").open("wb") as written,
        tempfile.NamedTemporaryFile("w+") as other_text,
    ):
        bad = {
            text: 'a TextIOWrapper is a file of text: open it with mode "rb"',
            io.StringIO("a"): "a StringIO is a file of text",
            other_text: "gives a str and no bytes",
            closed: "the BytesIO is closed",
            written: "the BufferedWriter can't be read",
            _Asynchronous(): "the read() of a _Asynchronous is asynchronous",
            _Fails(RuntimeError("the disk\nis gone")): "the _Fails can't be read: the disk is gone",
            _Fails(KeyError()): "the _Fails can't be read: KeyError",
            _Fails(None): "has no bytes yet",
            _Fails([1, 2]): "gives a list and no bytes",
            same: "the BytesIO gives 0 bytes",
        }
        answer = client.embed_images([same, *bad, PNG], errors="return")
    assert [error.position for error in answer.errors] == list(range(1, len(bad) + 1))
    for error, reason in zip(answer.errors, bad.values(), strict=True):
        assert reason in error.reason
        assert "\n" not in error.reason
    np.testing.assert_array_equal(answer.vectors[[0, -1]], np.stack([client.embed_images(PNG)] * 2))


def test_a_single_one_that_cannot_be_read_is_an_item_error(client: Client) -> None:
    with pytest.raises(ItemError, match="item 0: a StringIO is a file of text"):
        client.embed_images(io.StringIO("a"))


def test_a_class_with_read_is_no_file() -> None:
    with pytest.raises(ConfigError, match="images is a type"):
        image_items(_Upload)  # type: ignore[arg-type]


@pytest.mark.parametrize("file", [io.StringIO("a\nb"), io.BytesIO(b"a\nb")])
def test_files_are_no_texts(client: Client, file: Any) -> None:
    with pytest.raises(ConfigError, match=r"texts is a file \(.*IO\): give its lines"):
        text_items(file)
    answer = client.embed_texts(["a", file], errors="return")
    assert [error.position for error in answer.errors] == [1]

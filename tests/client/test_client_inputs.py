"""What is sent for what people hand in, and what is refused before it is sent."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from protoclip.client.errors import BadItem
from protoclip.client.inputs import class_labels, image_bytes, image_items, text_bytes, text_items
from protoclip.contract.errors import ConfigError
from protoclip.contract.pixels import PixelSpec, decode_rgb, to_rgb

SPEC = PixelSpec(32, 32)


class _Columns:
    """Iterates over the names of its columns, as tables of pandas and polars do."""

    columns = ("image",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


class _Response:
    """Iterates over chunks of its body, as requests' does."""

    def iter_content(self) -> Iterator[bytes]:
        return iter([b"a", b"b"])

    __iter__ = iter_content


def _pixels(height: int = 9, width: int = 7, channels: int = 3) -> NDArray[np.uint8]:
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


class _PathLike:
    """A path of a library of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def _received(item: object) -> NDArray[np.uint8]:
    """The pixels that the server sees."""
    return np.asarray(decode_rgb(image_bytes(item), SPEC))


@pytest.mark.parametrize("array", [_pixels(), _pixels()[::-1, ::2], np.asfortranarray(_pixels())])
def test_colour_arrays_arrive_as_they_are(array: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(_received(array), array)


def test_grey_arrays_arrive_as_they_are() -> None:
    array = _pixels(channels=0)
    np.testing.assert_array_equal(_received(array), np.stack([array] * 3, axis=2))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "RGBa"])
def test_pil_images_arrive_as_they_are(mode: str) -> None:
    source = Image.fromarray(_pixels(channels=4), "RGBA")
    steps = {"1": ("L", "1"), "HSV": ("RGB", "HSV"), "PA": ("P", "PA")}
    for step in steps.get(mode, (mode,)):
        source = source.convert(step)
    expected = to_rgb(source, SPEC.background)
    np.testing.assert_array_equal(_received(source), np.asarray(expected))


def test_pil_images_with_16_bits_keep_them_until_the_server() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 7), dtype=np.uint16)
    expected = np.round(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(_received(Image.fromarray(values))[:, :, 0], expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(_pixels()).save(stream, "PNG", exif=exif)
    with Image.open(stream) as opened:
        np.testing.assert_array_equal(_received(opened), _received(stream.getvalue()))


def test_files_and_bytes_travel_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "ünïcode 👠"
    path.write_bytes(b"whatever\x00\x00")
    data = b"whatever\x00\x00"
    for item in (path, str(path), path.as_uri(), _PathLike(path), data, bytearray(data), memoryview(data)):
        assert image_bytes(item) == data


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (_pixels().astype(np.float32), "an array of float32: give uint8 from 0 to 255"),
        (np.full((9, 7, 3), np.nan), "an array of float64"),
        (_pixels().astype(np.int64), "an array of int64"),
        (_pixels() > 3, "an array of bool"),
        (
            _pixels()[np.newaxis],
            r"shape \(1, 9, 7, 3\): give \[H, W, 3\] or \[H, W\], and several pictures as a list",
        ),
        (_pixels(channels=4), r"shape \(9, 7, 4\)"),
        (_pixels().transpose(2, 0, 1), r"shape \(3, 9, 7\)"),
        (_pixels()[0, 0], r"shape \(3,\)"),
        (_pixels()[:0], r"shape \(0, 7, 3\) has no pixels"),
        (Image.new("F", (3, 3)), "the PIL image can't be sent: .*mode F|the PIL image can't be sent: floating"),
        (b"", "the picture is empty"),
        (bytes(SPEC.max_bytes + 1), "33554433 bytes: the most is 33554432"),
        ("missing.jpg", "missing.jpg: No such file"),
        ("a\0b.jpg", "null"),
        ("tests", "tests: is a folder: name the pictures in it"),
        (None, "a NoneType is no image"),
        (3, "a int is no image"),
        ("", "the path is empty: name a file"),
        ("/dev/zero", "/dev/zero: is a pipe or a device"),
        ("x" * 5000, f"^{'x' * 119}…: File name too long"),
        (
            "https://a.example/b.jpg",
            "^https://a.example/b.jpg: URLs are not fetched: download it, or give its bytes",
        ),
        (Path("https://a.example/b.jpg"), "^https://a.example/b.jpg: URLs are not fetched"),
        ("s3://bucket/b.jpg", "s3://bucket/b.jpg: URLs are not fetched"),
        ("data:image/png;base64," + "A" * 5000, "^data:image/png;base64,A{97}…: data URIs are not decoded"),
        (memoryview(np.zeros((3, 3))), "a memoryview of pixels or numbers"),
        (pa.array(["a.jpg"]), "a StringArray is an Arrow array"),
        (torch.zeros((9, 7, 3), dtype=torch.uint8), "a Tensor is a tensor: give uint8 arrays"),
    ],
)
def test_what_is_no_image_is_refused(item: object, reason: str) -> None:
    with pytest.raises(BadItem, match=reason):
        image_bytes(item)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(BadItem, match=r"empty.jpg: the picture is empty \(0 bytes\)"):
        image_bytes(path)


def test_a_cut_off_pil_image_is_refused() -> None:
    stream = io.BytesIO()
    Image.fromarray(_pixels(90, 90)).save(stream, "PNG")
    with Image.open(io.BytesIO(stream.getvalue()[:9000])) as opened, pytest.raises(BadItem, match="can't be sent"):
        image_bytes(opened)


def test_texts_travel_as_utf8() -> None:
    assert text_bytes("Ἀχιλλεύς 🙂") == "Ἀχιλλεύς 🙂".encode()


@pytest.mark.parametrize("text", ["", " \n", "\ud800", "a\0b", 3, b"bytes", None, ["a"]])
def test_what_is_no_text_is_refused(text: object) -> None:
    with pytest.raises(BadItem):
        text_bytes(text)


NEITHER = [None, 3, {"a": 1}, {"a"}, SimpleNamespace(), array("B", b"x")]


@pytest.mark.parametrize("items", NEITHER)
def test_what_is_neither_one_nor_several_is_refused(items: Any) -> None:
    for read in (text_items, image_items, class_labels):
        with pytest.raises(ConfigError, match="give one item, or a list of them"):
            read(items)


@pytest.mark.parametrize(
    "items", [b"x", bytearray(b"x"), np.array("x"), np.zeros(3), np.array([["a", "b"]]), torch.zeros(2), Path("a")]
)
def test_what_is_no_list_of_texts_is_refused(items: Any) -> None:
    for read in (text_items, class_labels):
        with pytest.raises(ConfigError, match="give one item, or a list of them"):
            read(items)


@pytest.mark.parametrize(
    ("items", "way_out"),
    [
        (torch.zeros((3, 9, 7), dtype=torch.uint8), "images is a Tensor, which is a tensor: give uint8 arrays"),
        (pa.array(["a.jpg"]), r"images is a StringArray, which is an Arrow array: give .to_pylist\(\)"),
        (pa.chunked_array([["a.jpg"]]), r"an Arrow array: give .to_pylist\(\)"),
        (_Columns(), "which is a table: give one column"),
        (_Response(), "which is a response: give its .content"),
    ],
)
def test_what_would_be_taken_apart_is_refused(items: Any, way_out: str) -> None:
    with pytest.raises(ConfigError, match=way_out):
        image_items(items)


@pytest.mark.parametrize("items", [pa.array(["a"]), _Columns()])
def test_texts_are_not_taken_out_of_tables(items: Any) -> None:
    with pytest.raises(ConfigError, match=r"an Arrow array: give|is a table: give one column"):
        text_items(items)


@pytest.mark.parametrize(
    "make", [list, tuple, iter, lambda names: dict.fromkeys(names).keys(), np.array, lambda n: np.array(n, object)]
)
def test_several_keep_their_order(make: Any) -> None:
    names = ["b.jpg", "a.jpg", "c.jpg"]
    for read in (image_items, text_items):
        items, single = read(make(names))
        assert (list(items), single) == (names, False)
    assert class_labels(make(names)) == tuple(names)


def test_texts_are_never_taken_for_pictures() -> None:
    assert text_items("a.jpg") == (["a.jpg"], True)
    assert image_items("a.jpg") == (["a.jpg"], True)
    with pytest.raises(ConfigError, match="texts is a bytes"):
        text_items(b"abc")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="texts is a PosixPath"):
        text_items(Path("a.jpg"))  # type: ignore[arg-type]

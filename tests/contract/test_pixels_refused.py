"""What is no picture, cut short, too large or not what it says gets one line."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from picture_bytes import FORMATS, png, saved, smooth
from PIL import Image, ImageFile

from protoclip.contract.pixels import PictureError, PixelSpec, decode_rgb

SPEC = PixelSpec(height=8, width=8)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated_file(name: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    data = saved(image.quantize(64) if name == "gif" else image, **FORMATS[name])
    with pytest.raises(PictureError, match=r"damaged or cut short|header is damaged") as caught:
        decode_rgb(data[: int(len(data) * kept)], SPEC)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"", "0 bytes"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "HTML page"),
        (b"\xef\xbb\xbf \n<HTML>", "HTML page"),
        (b"PK\x03\x04" + bytes(100), "ZIP"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<svg width='1'/>", "SVG"),
        (b'{"error": "not found"}', "JSON"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x20ftypisom" + bytes(20), "a video"),
        (b"\0\0\0\x18ftypmif1" + bytes(16), "HEIF picture of a rare kind"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw file .CR3.: develop it"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51\0", "JPEG 2000"),
        (b"\0\0\1\0\1\0", "an icon .ICO.: save it as PNG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"RIFF\0\0\0\0AVI LIST", "known format"),
        (b"hello", "known format"),
        (bytes(1000), "known format"),
    ],
)
def test_strangers_get_a_way_out(data: bytes, hint: str) -> None:
    with pytest.raises(PictureError, match=hint) as caught:
        decode_rgb(data, SPEC)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["PPM", "TGA", "ICO", "PCX", "ICNS", "JPEG2000", "DDS"])
def test_plugins_that_are_not_on_the_list_are_not_tried(name: str) -> None:
    try:
        data = saved(Image.new("RGB", (16, 16)), format=name)
    except (KeyError, OSError, ValueError):
        pytest.skip(f"this Pillow can't write {name}")
    with pytest.raises(PictureError):
        decode_rgb(data, SPEC)


def test_limit_on_bytes_comes_first() -> None:
    with pytest.raises(PictureError, match="101 bytes, the limit is 100"):
        decode_rgb(bytes(101), PixelSpec(8, 8, max_bytes=100))


def test_bomb_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 20_000
    data = png((size, size), 1, 0, bytes(size // 8 + 1) * size)
    assert len(data) < 100_000
    loaded: list[Image.Image] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", loaded.append)
    with pytest.raises(PictureError, match=r"20000 x 20000 pixels, the limit is 100000000"):
        decode_rgb(data, SPEC)
    assert loaded == []


def test_own_limit_replaces_pillows_warning() -> None:
    # 90 million pixels: beyond Pillow's warning, which is an error under pytest, and below our limit
    with pytest.raises(PictureError, match="cut short"):
        decode_rgb(png((9_500, 9_500), 1, 0, b""), SPEC)
    with pytest.raises(PictureError, match="the limit is 15"):
        decode_rgb(saved(Image.new("RGB", (4, 4))), PixelSpec(8, 8, max_pixels=15))
    assert decode_rgb(saved(Image.new("RGB", (4, 4))), PixelSpec(8, 8, max_pixels=16)).size == (4, 4)


def test_lying_headers() -> None:
    with pytest.raises(PictureError):
        decode_rgb(png((100, 100), 8, 2, bytes(31) * 10), SPEC)
    jpeg = saved(smooth(), format="JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    with pytest.raises(PictureError, match="limit"):
        decode_rgb(jpeg[:frame] + struct.pack(">HH", 65500, 65500) + jpeg[frame + 4 :], SPEC)
    stretched = np.asarray(decode_rgb(jpeg[:frame] + struct.pack(">HH", 480, 64) + jpeg[frame + 4 :], SPEC))
    assert stretched.shape == (480, 64, 3)
    assert len(np.unique(stretched[100:].reshape(-1, 3), axis=0)) == 1

"""AVIF, HEIC and JPEG XL: read, turned once, limited before they are decoded; or named with what reads them."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from icc_profiles import DISPLAY_P3, matrix_profile, p3_in_srgb
from picture_bytes import saved, smooth
from PIL import AvifImagePlugin, Image

from protoclip.contract import picture_files
from protoclip.contract.jpeg_xl import JpegXlError, read_jpeg_xl_header
from protoclip.contract.picture_files import HEAD_BYTES, find_kind
from protoclip.contract.picture_folders import NO_PICTURE
from protoclip.contract.pixels import PictureError, PixelSpec, decode_rgb, load_pixels
from protoclip.sources.listing import list_files
from protoclip.sources.picture_trees import PictureTree, picture_tree

SPEC = PixelSpec(height=8, width=8)
P3 = matrix_profile(DISPLAY_P3)
# A red corner at the top left tells every way of turning from the others.
STORED = np.full((32, 48, 3), 60, dtype=np.uint8)
STORED[:16, :16] = (230, 20, 20)
STORED[16:, :16] = (20, 20, 230)
HEIC, JXL = "pillow_heif", "pillow_jxl"


def file_of(kind: str, image: Image.Image | np.ndarray, **options: Any) -> bytes:
    """A file of this kind, all but lossless."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    if kind == "HEIC":
        pillow_heif = pytest.importorskip(HEIC, reason="the extra heic is not installed")
        pillow_heif.register_heif_opener()
        return saved(image, format="HEIF", quality=100, chroma=444, **options)
    if kind == "JPEG XL":
        pytest.importorskip(JXL, reason="the extra jxl is not installed")
        return saved(image, format="JXL", lossless=True, **options)
    return saved(image, format="AVIF", quality=100, subsampling="4:4:4", **options)


def difference(data: bytes, shown: np.ndarray, spec: PixelSpec = SPEC) -> float:
    found = np.asarray(decode_rgb(data, spec)).astype(float)
    assert found.shape == shown.shape
    return float(np.abs(found - shown).max())


ANIMATED = bytes.fromhex(
    "ff0a47044d0020260804010044004b188b15805dfcff0062c1ab00801f8b3f0804010044004b18"
    "8b15805dfcff00ce55a7008024aa3f0804050044004b188b15805dfcff00e255a7008024aa3f"
)
GREY_AND_ALPHA_16_BITS = bytes.fromhex(
    "0000000c4a584c200d0a870a00000014667479706a786c20000000006a786c20000000096a786c6c0a000000936a78"
    "6c63ff0a41f023f801285a0408101000ec014b2834161e856f0a0a66523062438c8831582306af46d3811883db0331"
    "b88c173800f003fcffff1ad0e9743a9d4ea7d3e9ffff743a9d4ea7d3e9743a9d4ea7d3e9ffff743a9d4ea7d3e9743a"
    "9d4ea7d3e935fb743a9d4ea7d3e9743a9d4ea7d3e945fe743a9d4e5ff069e1615181436571eec774fb91a705000c04"
)
KINDS = ("AVIF", "HEIC", "JPEG XL")


@pytest.mark.parametrize("kind", KINDS)
def test_it_shows_what_was_stored(kind: str) -> None:
    data = file_of(kind, smooth())
    assert find_kind(data[:HEAD_BYTES]) == kind
    assert difference(data, np.asarray(smooth())) <= 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["L", "RGBA", "LA"])
def test_grey_and_transparency(kind: str, mode: str) -> None:
    image = Image.fromarray(STORED).convert(mode)
    if "A" in mode:
        image.putalpha(128)
    colors = np.asarray(image.convert("RGB")).astype(float)
    shown = (colors * 128 + 255 * 127) / 255 if "A" in mode else colors
    assert difference(file_of(kind, image), shown) <= 6


@pytest.mark.parametrize("kind", KINDS)
def test_its_colour_profile_is_applied(kind: str) -> None:
    image = np.full((32, 32, 3), (220, 120, 40), dtype=np.uint8)
    if kind == "JPEG XL":
        pytest.skip("its package writes no profile but sRGB")
    data = file_of(kind, image, icc_profile=P3)
    assert difference(data, p3_in_srgb(image), PixelSpec(8, 8, color_management="srgb")) <= 4
    assert difference(data, image) <= 4


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_xl_says_srgb_of_itself(mode: str) -> None:
    image = smooth().convert(mode)
    data = file_of("JPEG XL", image)
    assert difference(data, np.asarray(image.convert("RGB")), PixelSpec(8, 8, color_management="srgb")) == 0


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_it_is_turned_once(kind: str, orientation: int) -> None:
    """Pillow makes EXIF of AVIF's own turning; libheif turns by itself, and EXIF data still speaks of it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {
        2: STORED[:, ::-1],
        3: STORED[::-1, ::-1],
        4: STORED[::-1],
        5: STORED.swapaxes(0, 1),
        6: np.rot90(STORED, -1),
        7: STORED[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(STORED),
    }
    assert difference(file_of(kind, STORED, exif=exif.tobytes()), turned[orientation]) <= 40


def test_of_a_jpeg_xl_only_its_own_header_turns_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert difference(file_of("JPEG XL", STORED, exif=exif.tobytes()), STORED) == 0
    # A JPEG that was put into JPEG XL without loss: its reader gives the JPEG back, unturned.
    jpeg = saved(Image.fromarray(STORED), format="JPEG", quality=100, subsampling=0, exif=exif)
    (tmp_path / "turned.jpg").write_bytes(jpeg)
    with Image.open(tmp_path / "turned.jpg") as image:
        data = saved(image, format="JXL", lossless_jpeg=True)
    assert difference(data, np.rot90(STORED, -1)) <= 20


def test_the_first_picture_of_an_animated_avif() -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    data = saved(frames[0], format="AVIF", save_all=True, append_images=frames[1:])
    assert find_kind(data) == "AVIF"
    assert difference(data, np.full((16, 16, 3), (255, 0, 0))) <= 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_one_that_is_cut_short(kind: str, kept: float) -> None:
    data = file_of(kind, np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with pytest.raises(PictureError, match=r"damaged or cut short|header is damaged") as caught:
        decode_rgb(data[: int(len(data) * kept)], SPEC)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_limits_come_before_decoding(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = file_of(kind, smooth(64, 48))
    decoded: list[str] = []
    if kind == "HEIC":
        from pillow_heif.heif import HeifImage

        monkeypatch.setattr(HeifImage, "data", property(lambda self: decoded.append("heic")))
    elif kind == "JPEG XL":
        from pillow_jxl import JpegXLImagePlugin

        monkeypatch.setattr(JpegXLImagePlugin, "Decoder", lambda **_: decoded.append("jxl"))
    else:
        monkeypatch.setattr(AvifImagePlugin.AvifImageFile, "load", lambda self: decoded.append("avif"))
    with pytest.raises(PictureError, match="64 x 48 pixels, the limit is 3071"):
        decode_rgb(data, PixelSpec(8, 8, max_pixels=3071))
    with pytest.raises(PictureError, match="bytes, the limit is 20"):
        decode_rgb(data, PixelSpec(8, 8, max_bytes=20))
    assert decoded == []
    with suppress(PictureError):  # else the lines above would show nothing
        decode_rgb(data, SPEC)
    assert decoded


SIDES = ((8, 8), (256, 256), (1, 1), (9, 9), (40, 24), (300, 200), (512, 513), (2000, 3), (8200, 40), (48, 40))
RATIOS = ((32, 24), (640, 360), (500, 400), (200, 100), (257, 256), (270_000, 2))


@pytest.mark.parametrize("size", [*SIDES, *RATIOS])
def test_the_size_of_a_jpeg_xl_by_its_header(size: tuple[int, int]) -> None:
    data = file_of("JPEG XL", Image.new("L", size))
    assert read_jpeg_xl_header(data) == (size, False)
    boxed = file_of("JPEG XL", Image.new("L", size), use_container=True)
    assert read_jpeg_xl_header(boxed) == (size, False)


def test_an_animated_jpeg_xl_is_named() -> None:
    """Its reader gives the last picture: here three of 32 x 32, red, green and blue."""
    assert read_jpeg_xl_header(ANIMATED) == ((32, 32), True)
    pytest.importorskip(JXL, reason="the extra jxl is not installed")
    with pytest.raises(PictureError, match="an animated JPEG XL is not read: save its first picture as PNG"):
        decode_rgb(ANIMATED, SPEC)


def test_a_jpeg_xl_that_its_reader_gets_wrong_is_named() -> None:
    """Grey and alpha of 16 bits, 8 x 8: it came out as noise."""
    pytest.importorskip(JXL, reason="the extra jxl is not installed")
    with pytest.raises(PictureError, match="grey with alpha of 16 bits is not read: save it with 8 bits"):
        decode_rgb(GREY_AND_ALPHA_16_BITS, SPEC)


@pytest.mark.parametrize("data", [b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), b"\xff\x0a\xff", b""])
def test_a_jpeg_xl_without_a_size(data: bytes) -> None:
    with pytest.raises(JpegXlError):
        read_jpeg_xl_header(data)


@pytest.mark.parametrize(
    ("brands", "kind"),
    [
        ((b"avif",), "AVIF"),
        ((b"mif1", b"avif", b"miaf"), "AVIF"),
        ((b"heic", b"mif1"), "HEIC"),
        ((b"mif1", b"heic"), "HEIC"),
        ((b"msf1", b"hevc"), "HEIC"),
        ((b"isom", b"iso2", b"avc1", b"mp41"), None),
        ((b"mif1", b"jpeg"), None),
    ],
)
def test_brands(brands: tuple[bytes, ...], kind: str | None) -> None:
    box = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    assert find_kind((len(box) + 4).to_bytes(4, "big") + box + b"heicavif") == kind


WITHOUT = {
    HEIC: ("HEIC", "phone.heic", r"HEIC, .* the extra `heic` .*pip install pillow-heif"),
    JXL: ("JPEG XL", "new.jxl", r"JPEG XL, .* the extra `jxl` .*pip install pillow-jxl-plugin"),
}


def pictures_in(folder: Path, *, decoded_here: bool) -> PictureTree:
    listing = list_files(str(folder))
    assert listing is not None
    return picture_tree(str(folder), listing, decoded_here=decoded_here)


@pytest.mark.parametrize("module", WITHOUT)
def test_without_its_package_it_is_named(module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kind, name, reason = WITHOUT[module]
    data = file_of(kind, smooth())
    assert decode_rgb(data, SPEC).size == (64, 48)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PictureError, match=f"^this is {reason}.*or convert it to JPEG, PNG or WebP$"):
        load_pixels(data, SPEC)
    (tmp_path / name).write_bytes(data)
    (tmp_path / "no suffix").write_bytes(data)
    (tmp_path / f"truly a JPEG{Path(name).suffix}").write_bytes(saved(smooth(), format="JPEG"))
    listing = pictures_in(tmp_path, decoded_here=True)
    assert list(listing.pictures) == [f"truly a JPEG{Path(name).suffix}"]
    assert sorted(Path(item.name).name for item in listing.others) == sorted([name, "no suffix"])
    assert all(f"this is {kind}" in item.reason and "pip install" in item.reason for item in listing.others)
    # A server has packages of its own.
    assert len(pictures_in(tmp_path, decoded_here=False).pictures) == 3
    monkeypatch.undo()
    assert len(pictures_in(tmp_path, decoded_here=True).pictures) == 3


def test_a_package_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = file_of("HEIC", smooth())
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    with pytest.raises(PictureError, match="this is HEIC, and its package pillow-heif can't be loaded: reinstall"):
        decode_rgb(data, SPEC)


def test_without_avif(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = file_of("AVIF", smooth())
    monkeypatch.setattr(picture_files.features, "check", lambda name: name != "avif")
    with pytest.raises(PictureError, match=r"AVIF, which this Pillow was built without: .* 11\.3 or newer"):
        decode_rgb(data, SPEC)
    (tmp_path / "web.avif").write_bytes(data)
    assert "built without" in pictures_in(tmp_path, decoded_here=True).others[0].reason


def test_folders_know_every_kind_by_name_and_by_content(tmp_path: Path) -> None:
    pictures = {
        "a.avif": file_of("AVIF", smooth()),
        "b": file_of("AVIF", smooth()),
        "c.HEIC": file_of("HEIC", smooth()),
        "d.hif": file_of("HEIC", smooth()),
        "e.dat": file_of("HEIC", smooth()),
        "f.jxl": file_of("JPEG XL", smooth()),
        "g": file_of("JPEG XL", smooth()),
        "h.jfif": saved(smooth(), format="JPEG"),
        "i.heic": b"damaged, for whoever decodes it to say so",
    }
    strangers = {"film.mp4": b"\0\0\0\x18ftypisom" + bytes(12), "short": b"\xff\x0a", "notes.txt": b"BMW"}
    for name, data in (pictures | strangers).items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "pipe.heic")
    for decoded_here in (True, False):
        listing = pictures_in(tmp_path, decoded_here=decoded_here)
        assert list(listing.pictures) == sorted(pictures)
        others = {Path(item.name).name: item.reason for item in listing.others}
        assert "pipe" in others.pop("pipe.heic")
        assert others == dict.fromkeys(strangers, NO_PICTURE)

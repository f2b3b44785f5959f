"""Converts the caller's items to the bytes that are sent. Nothing is guessed; other types are errors."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from protoclip.contract.errors import ConfigError
from protoclip.contract.pixels import PixelSpec, to_rgb
from protoclip.contract.text import TextError, check_text

ImageItem: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any]

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_WHITE = (255, 255, 255)


class BadItem(ValueError):
    """An item can't be sent; the message is the reason."""


def image_items(items: ImageItem | Iterable[ImageItem]) -> tuple[Iterable[ImageItem], bool]:
    """The items, and whether a single one was given.

    Raises:
        ConfigError: neither an image nor several.
    """
    if isinstance(items, str | Path | bytes | Image.Image | np.ndarray):
        return [items], True
    return _several(items, "images"), False


def text_items(texts: str | Iterable[str]) -> tuple[Iterable[str], bool]:
    """As `image_items`, for texts."""
    if isinstance(texts, str):
        return [texts], True
    return _several(texts, "texts"), False


def _several(items: Any, name: str) -> Iterable[Any]:
    # Bytes would be iterated as numbers, a mapping without its values, and a set in an undefined order.
    unfit = isinstance(items, bytes | bytearray | memoryview | Mapping | Set) or getattr(items, "ndim", 1) == 0
    if unfit or not isinstance(items, Iterable):
        raise ConfigError(f"{name} is a {type(items).__name__}: give one item, or a list of them")
    return items


def image_bytes(item: object) -> bytes:
    """The bytes of a picture file: unchanged where `item` is one, else encoded as PNG, which is lossless.

    Raises:
        BadItem: no such file, an array that isn't uint8 [H, W, 3] or [H, W], too many bytes, another type.
    """
    if isinstance(item, str | Path):
        data = _read_file(Path(item))
    elif isinstance(item, bytes):
        data = item
    elif isinstance(item, Image.Image):
        data = _image_png(item)
    elif isinstance(item, np.ndarray):
        data = _array_png(item)
    else:
        raise BadItem(f"a {type(item).__name__} is no image: give a path, bytes, a PIL image or a uint8 array")
    _check_size(len(data))
    return data


def text_bytes(item: object) -> bytes:
    """The text in UTF-8.

    Raises:
        BadItem: what `protoclip.contract.text.check_text` doesn't accept.
    """
    try:
        return check_text(item).encode("utf-8")
    except TextError as error:
        raise BadItem(str(error)) from error


def _check_size(num_bytes: int) -> None:
    if num_bytes == 0:
        raise BadItem("the picture is empty (0 bytes)")
    if num_bytes > PixelSpec.max_bytes:
        raise BadItem(f"the picture has {num_bytes} bytes: the most is {PixelSpec.max_bytes}")


def _read_file(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise BadItem(f"{path} is a folder: name the pictures in it")
        _check_size(path.stat().st_size)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, BadItem):
            raise BadItem(f"{path}: {error}") from None
        raise BadItem(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _array_png(array: NDArray[Any]) -> bytes:
    if array.dtype != np.uint8:
        raise BadItem(f"an array of {array.dtype}: give uint8 from 0 to 255, as in (255 * array).astype('uint8')")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise BadItem(f"an array of shape {array.shape}: give [H, W, 3] or [H, W], and several pictures as a list")
    if array.size == 0:
        raise BadItem(f"an array of shape {array.shape} has no pixels")
    return _png(Image.fromarray(np.ascontiguousarray(array)))


def _image_png(image: Image.Image) -> bytes:
    try:
        upright = _upright(image)
        if upright.mode in _PNG_MODES:
            return _png(upright)
        # The colour behind transparent pixels depends on the model, so they stay transparent here.
        return _png(upright.convert("RGBA") if upright.has_transparency_data else to_rgb(upright, _WHITE))
    except (OSError, ValueError, SyntaxError) as error:
        raise BadItem(f"the PIL image can't be sent: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation, as the server would to the file: saving as PNG drops it by default."""
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, TypeError, LookupError, struct.error):
        # The server ignores broken EXIF data too; broken pixels raise when the PNG is written.
        return image


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    # A fast compression level: the bytes are sent only once.
    image.save(stream, format="PNG", compress_level=1)
    return stream.getvalue()

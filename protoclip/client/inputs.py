"""What callers give, as the bytes that are sent. Nothing is guessed: what could mean two things is an error."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, KeysView, Mapping, Sequence, Set
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protoclip.contract.errors import ConfigError
from protoclip.contract.text import TextError, check_text
from protoclip.contract.zero_shot import Probabilities

from .encoding import array_png, image_png
from .errors import BadItem
from .reading import BinaryFile, check_num_bytes, is_file_object, read_file_object, read_path

ImageItem: TypeAlias = (
    str | os.PathLike[Any] | bytes | bytearray | memoryview | Image.Image | NDArray[Any] | BinaryFile
)

_ONE_IMAGE = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
_KINDS = "a path, bytes, an open file, a PIL image or a uint8 array"
# What would be taken apart into other things than pictures or texts, by an attribute that tells it. In this order:
# Arrow's arrays have __dlpack__ too.
_UNFIT = {
    "to_pylist": "is an Arrow array: give .to_pylist()",
    "__dlpack__": "is a tensor: give uint8 arrays [H, W, 3], as of .cpu().numpy(), one for each picture",
    "columns": 'is a table: give one column, as in table["image"]',
    "iter_content": "is a response: give its .content",
}


def image_items(items: ImageItem | Iterable[ImageItem]) -> tuple[Iterable[ImageItem], bool]:
    """The items, and whether a single one was given. A 1-D array of paths is several.

    Raises:
        ConfigError: neither an image nor several.
    """
    if isinstance(items, np.ndarray):
        is_paths = items.ndim == 1 and items.dtype.kind in "UO"
        return (items, False) if is_paths else ([items], True)
    if isinstance(items, _ONE_IMAGE) or is_file_object(items):
        return [items], True  # type: ignore[list-item]  # what has read() is a BinaryFile, or gets an error
    return _several(items, "images"), False


def text_items(texts: str | Iterable[str]) -> tuple[Iterable[str], bool]:
    """As `image_items`, for texts."""
    if isinstance(texts, str):
        return [texts], True
    if is_file_object(texts):
        kind = type(texts).__name__
        raise ConfigError(f"texts is a file ({kind}): give its lines, as in file.read().splitlines()")
    return _several(texts, "texts"), False


def class_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The classes of a zero-shot classification: texts, each once; ConfigError where they aren't."""
    found = label_items(labels)
    check_labels(found)
    return found


def label_items(labels: Iterable[str]) -> tuple[str, ...]:
    """What is given as labels, for `check_labels`.

    Raises:
        ConfigError: one text, a file, or nothing that has several items in an order.
    """
    if isinstance(labels, str):
        raise ConfigError(f"labels={labels!r} is one text: give a list of them")
    if is_file_object(labels):
        raise ConfigError("labels is a file: give its lines, as in file.read().splitlines()")
    return tuple(_several(labels, "labels"))


def check_labels(labels: Iterable[object]) -> None:
    """Raises ConfigError where one is not a text, is blank, or is there twice.

    What differs in blanks or in Unicode's way to write an accent alone is the same class: of two of them each
    would have half of its probability.
    """
    seen: set[str] = set()
    for position, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip():
            raise ConfigError(f"labels[{position}]={label!r} is no label: give a text")
        plain = " ".join(unicodedata.normalize("NFC", label).split())
        if plain in seen:
            raise ConfigError(f"labels has {label!r} more than once: give each label once")
        seen.add(plain)


def check_comparable(labels: Sequence[str], probabilities: Probabilities) -> None:
    """Raises ConfigError for a single label where the model's probabilities are a softmax over all labels."""
    if probabilities == "softmax" and len(labels) == 1:
        raise ConfigError(
            f"labels has {labels[0]!r} alone, and its probability is 1 for every picture: give another one to "
            "compare it with, or ask for its cosine: multi_label=True with threshold= (--threshold)"
        )


def _several(items: Any, name: str) -> Iterable[Any]:
    way_out = _way_out(items)
    is_tensor = way_out == _UNFIT["__dlpack__"]
    if way_out and (name == "images" or not is_tensor):
        raise ConfigError(f"{name} is a {type(items).__name__}, which {way_out}")
    # Bytes would be iterated as numbers, a mapping without its values, and a set in an undefined order.
    unfit = isinstance(items, Mapping | Set) and not isinstance(items, KeysView)
    unfit = unfit or is_tensor or _is_buffer(items)
    if unfit or getattr(items, "ndim", 1) != 1 or not isinstance(items, Iterable):
        raise ConfigError(f"{name} is a {type(items).__name__}: give one item, or a list of them")
    return items


def _is_buffer(items: object) -> bool:
    if isinstance(items, np.ndarray):
        return items.dtype.kind not in "UO"
    try:
        memoryview(items)  # type: ignore[arg-type]  # whether it is one is the question
    except (TypeError, ValueError, BufferError):
        return False
    return True


def image_bytes(item: object) -> bytes:
    """The bytes of a picture file: unchanged where `item` is one, else encoded without loss, as PNG mostly.

    An image's colour profile goes with it; whether it is applied, the model says.

    Raises:
        BadItem: no such file, a URL, an array that isn't uint8 [H, W, 3] or [H, W], too many bytes, another type.
    """
    if isinstance(item, str | os.PathLike):
        return read_path(item)
    if isinstance(item, bytes | bytearray | memoryview):
        data = _of_buffer(item)
    elif isinstance(item, Image.Image):
        data = image_png(item)
    elif isinstance(item, np.ndarray):
        data = array_png(item)
    elif is_file_object(item):
        data = read_file_object(item)
    else:
        raise BadItem(_no_image(item))
    check_num_bytes(len(data))
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


def _of_buffer(item: bytes | bytearray | memoryview) -> bytes:
    try:
        is_bytes = not isinstance(item, memoryview) or (item.ndim == 1 and item.itemsize == 1)
        data = bytes(item)
    except ValueError as error:
        raise BadItem(f"the memoryview can't be read: {error}") from error
    if not is_bytes:
        raise BadItem("a memoryview of pixels or numbers: give one of a picture file's bytes, or an array")
    return data


def _no_image(item: object) -> str:
    return f"a {type(item).__name__} {_way_out(item) or f'is no image: give {_KINDS}'}"


def _way_out(item: object) -> str | None:
    if isinstance(item, np.ndarray):
        return None
    return next((way_out for attribute, way_out in _UNFIT.items() if hasattr(item, attribute)), None)

"""The parity gate's inputs: real pictures and texts, and adversarial ones."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protoclip.contract.errors import DataError
from protoclip.contract.pixels import PictureError, PixelSpec, load_pixels
from protoclip.contract.text import TextError, TextSpec, Tokenizer
from protoclip.data.table import Pairs

NUM_SAMPLES = 256
NUM_CALIBRATION = 128


@dataclass(frozen=True)
class Samples:
    """N pictures, the text of each at the same index, and where they are from. No two are equal.

    `labels` are the pictures' classes for zero-shot classification; none where the data has none.
    """

    pictures: tuple[bytes, ...]
    texts: tuple[str, ...]
    origin: str
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.pictures) != len(self.texts) or not self.pictures:
            raise DataError(
                f"{self.origin}: {len(self.pictures)} pictures and {len(self.texts)} texts are no pairs"
            )


def pick_samples(pairs: Pairs, origin: str, count: int = NUM_SAMPLES, label_column: str | None = None) -> Samples:
    """`count` pairs spread over the whole table, always the same; a picture or label text is taken once.

    Raises:
        DataError: the table holds fewer different pairs, it has no `label_column`, or a picture's file
            can't be read.
    """
    labels = None if label_column is None else pairs.column(label_column)
    rows = [row for row, _, _ in islice(_different_pairs(pairs), count)]
    if len(rows) < count:
        raise DataError(
            f"{origin}: {len(rows)} different pairs, the comparison needs {count}: "
            "give more, or leave --data out to use the bundled pictures"
        )
    named = () if labels is None else tuple(str(labels[row]) for row in rows)
    return Samples(
        tuple(pairs.read_image(row) for row in rows), tuple(pairs.texts[row][0] for row in rows), origin, named
    )


def pick_calibration(
    pairs: Pairs, origin: str, count: int = NUM_CALIBRATION, compared: int = NUM_SAMPLES
) -> Samples:
    """`count` pairs to calibrate on: those after the `compared` ones that `pick_samples` takes.

    Raises:
        DataError: the table holds fewer different pairs, or a picture's file can't be read.
    """
    found = list(islice(_different_pairs(pairs), compared, compared + count))
    if len(found) < count:
        raise DataError(
            f"{origin}: calibration needs {count} pairs beside the {compared} that the comparison takes, and "
            f"there are {len(found)}: give more, or leave --data out to use the bundled pictures"
        )
    return Samples(tuple(picture for _, picture, _ in found), tuple(text for _, _, text in found), origin)


def _different_pairs(pairs: Pairs) -> Iterator[tuple[int, bytes, str]]:
    seen: set[str | bytes] = set()
    for row in map(int, np.random.default_rng(0).permutation(len(pairs))):
        text = pairs.texts[row][0]
        if text in seen:
            continue
        picture = pairs.read_image(row)
        key = hashlib.sha256(picture).digest()
        if key not in seen:
            seen |= {text, key}
            yield row, picture, text


def sample_pixels(samples: Samples, spec: PixelSpec) -> NDArray[np.uint8]:
    """All pictures as the encoder's input, uint8 `[N, H, W, 3]`.

    Raises:
        DataError: one can't be decoded; names its position.
    """
    rows = []
    for place, picture in enumerate(samples.pictures):
        try:
            rows.append(load_pixels(picture, spec))
        except PictureError as error:
            raise DataError(f"{samples.origin}: picture {place}: {error}") from error
    return np.stack(rows)


def sample_tokens(samples: Samples, tokenizer: Tokenizer) -> NDArray[np.int32]:
    """All texts as the encoder's input, int32 `[N, T]`; raises DataError where one can't be used."""
    try:
        return tokenizer.encode(samples.texts)
    except TextError as error:
        raise DataError(f"{samples.origin}: {error}") from error


def adversarial_pixels(spec: PixelSpec) -> NDArray[np.uint8]:
    """Black, white, one bright pixel, stripes, a ramp, pure red and two of noise: uint8 `[8, H, W, 3]`."""
    height, width = spec.height, spec.width
    noise = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    pictures = np.zeros((8, height, width, 3), dtype=np.uint8)
    pictures[1] = 255
    pictures[2, height // 2, width // 2] = 255
    pictures[3, :, ::2] = 255
    pictures[4] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
    pictures[5, :, :, 0] = 255
    pictures[6:] = noise
    return pictures


def adversarial_files() -> tuple[bytes, ...]:
    """Picture files that are not square, smaller and larger than the encoder's input, and half transparent.

    They reveal wrong resizing or cropping; many data sets hold square pictures only.
    """
    files = []
    for number, (width, height) in enumerate(((90, 40), (40, 90), (700, 300), (9, 5), (33, 480))):
        across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
        waves = [np.sin(across * (5 + number)) * down, np.cos(down * (9 + number)), across * down]
        noise = np.random.default_rng(number).uniform(-0.2, 0.2, (height, width, 3))
        values = np.clip((np.stack(waves, axis=2) + 1) / 2 + noise, 0, 1)
        picture = Image.fromarray((values * 255).astype(np.uint8))
        if number % 2:
            picture.putalpha(Image.fromarray((across * 255).astype(np.uint8)))
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        files.append(stream.getvalue())
    return tuple(files)


def adversarial_texts(spec: TextSpec) -> list[str]:
    """One letter, lengths around the context length, far beyond it, many alphabets, and the end token's name."""
    around_the_end = [" ".join(["a"] * count) for count in range(spec.context_length - 3, spec.context_length + 2)]
    return [
        "a",
        *around_the_end,
        "cat " * (20 * spec.context_length),
        "x" * (20 * spec.context_length),
        "ça, 猫, кот, 😀👩‍🚀, &amp; \t  \n two",
        "before <end_of_text> after",
    ]

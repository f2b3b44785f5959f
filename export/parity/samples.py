"""The parity gate's inputs: real pictures and texts, and adversarial ones."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped
from protoclip.contract.pixels import PictureError, PixelSpec, decode_rgb, load_pixels
from protoclip.contract.text import TextError, TextSpec, Tokenizer, check_text
from protoclip.sources import Pairs

from .wide_colors import wide_picture

NUM_SAMPLES = 256
NUM_CALIBRATION = 128
# Only whether a picture can be decoded is asked of it.
_ANY_SIZE = PixelSpec(1, 1)


@dataclass(frozen=True)
class Samples:
    """N pictures, the text of each at the same index, and where they are from. No two are equal.

    `labels` are the pictures' classes for zero-shot classification; none where the data has none. `left_out` are
    pairs that could not be taken, with the reason.
    """

    pictures: tuple[bytes, ...]
    texts: tuple[str, ...]
    origin: str
    labels: tuple[str, ...] = ()
    left_out: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        if len(self.pictures) != len(self.texts) or not self.pictures:
            raise DataError(
                f"{self.origin}: {len(self.pictures)} pictures and {len(self.texts)} texts are no pairs"
            )


def pick_samples(
    pairs: Pairs,
    origin: str,
    count: int = NUM_SAMPLES,
    label_column: str | None = None,
    filler: Pairs | None = None,
) -> Samples:
    """`count` pairs spread over the whole table, always the same; a picture or label text is taken once.

    A picture that can't be read or decoded and a text that can't be used are left out. Where there are too few,
    pairs of `filler`, the bundled corpus, are taken as well, and `origin` says so; there are no labels then.

    Raises:
        DataError: not one pair can be used, there are fewer different ones and no `filler`, or no `label_column`.
    """
    labels = None if label_column is None else pairs.column(label_column)
    seen: set[str | bytes] = set()
    left_out: list[Skipped] = list(pairs.left_out)
    found = list(islice(_different_pairs(pairs, seen, left_out), count))
    origin = _checked_origin(origin, len(found), count, left_out, filled=filler is not None)
    more = [] if filler is None else list(islice(_different_pairs(filler, seen, []), count - len(found)))
    named = () if labels is None or more else tuple(str(labels[row]) for row, _, _ in found)
    both = found + more
    return Samples(
        tuple(picture for _, picture, _ in both),
        tuple(text for _, _, text in both),
        origin,
        named,
        tuple(left_out),
    )


def pick_calibration(
    pairs: Pairs,
    origin: str,
    count: int = NUM_CALIBRATION,
    compared: int = NUM_SAMPLES,
    filler: Pairs | None = None,
) -> Samples:
    """`count` pairs to calibrate on: those after the `compared` ones that `pick_samples` takes, with its `filler`.

    Raises:
        DataError: there are fewer different pairs.
    """
    seen: set[str | bytes] = set()
    different = _different_pairs(pairs, seen, [])
    if filler is not None:
        different = chain(different, _different_pairs(filler, seen, []))
    found = list(islice(different, compared, compared + count))
    if len(found) < count:
        raise DataError(
            f"{origin}: calibration needs {count} pairs beside the {compared} that the comparison takes, and "
            f"there are {len(found)}: give more, or leave --data out to use the bundled pictures"
        )
    return Samples(tuple(picture for _, picture, _ in found), tuple(text for _, _, text in found), origin)


def _checked_origin(origin: str, found: int, wanted: int, left_out: list[Skipped], *, filled: bool) -> str:
    if found == wanted:
        return origin
    if not found:
        reason = f"; the first: {left_out[0].name}: {left_out[0].reason}" if left_out else ""
        raise DataError(f"{origin}: not one pair can be used{reason}")
    if not filled:
        raise DataError(
            f"{origin}: {found} different pairs, the comparison needs {wanted}: "
            "give more, or leave --data out to use the bundled pictures"
        )
    return f"{origin} ({found} different pairs) and the bundled corpus ({wanted - found})"


def _different_pairs(
    pairs: Pairs, seen: set[str | bytes], left_out: list[Skipped]
) -> Iterator[tuple[int, bytes, str]]:
    for row in map(int, np.random.default_rng(0).permutation(len(pairs))):
        text = pairs.texts[row][0]
        if text in seen:
            continue
        try:
            picture = pairs.read_image(row)
            check_text(text)
            decode_rgb(picture, _ANY_SIZE)
        except (DataError, PictureError, TextError) as error:
            name = pairs.picture_place(row)
            left_out.append(Skipped(name, str(error).removeprefix(f"{name}: ")))
            continue
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
    """Black, white, one bright pixel, stripes, a ramp, red, grey and two of noise: uint8 `[9, H, W, 3]`.

    Grey is close to 0 after normalisation, so that all patches are alike and nearly nothing.
    """
    height, width = spec.height, spec.width
    noise = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    pictures = np.zeros((9, height, width, 3), dtype=np.uint8)
    pictures[1] = 255
    pictures[2, height // 2, width // 2] = 255
    pictures[3, :, ::2] = 255
    pictures[4] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
    pictures[5, :, :, 0] = 255
    pictures[6] = 128
    pictures[7:] = noise
    return pictures


def adversarial_files() -> tuple[bytes, ...]:
    """Picture files that are not square, smaller and larger than the encoder's input, half transparent, in P3.

    They reveal wrong resizing, cropping or colours; many data sets hold square pictures without a profile only.
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
    return (*files, wide_picture())


def adversarial_texts(spec: TextSpec) -> list[str]:
    """One letter, lengths around the context length, far beyond it, many alphabets, the end token's name, and
    texts of which cleaners leave nothing: a blank written as HTML, and punctuation."""
    around_the_end = [" ".join(["a"] * count) for count in range(spec.context_length - 3, spec.context_length + 2)]
    return [
        "a",
        *around_the_end,
        "cat " * (20 * spec.context_length),
        "x" * (20 * spec.context_length),
        "ça, 猫, кот, 😀👩‍🚀, &amp; \t  \n two",
        "before <end_of_text> after",
        "&nbsp;",
        "?!",
    ]

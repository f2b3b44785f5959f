"""The manifest's golden vectors: torch's embeddings of a few inputs, and how far each engine may be from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.graphs.runtime import Encoders
from export.parity.gates import GATES
from export.parity.reference import Reference
from protoclip.contract.golden import (
    TEXTS,
    Golden,
    GoldenBound,
    GoldenVectors,
    deviation,
    golden,
    golden_pictures,
    loosened,
)
from protoclip.contract.manifest import Engine, Precision
from protoclip.contract.pixels import load_pixels
from protoclip.contract.text import Tokenizer
from protoclip.encoders.model import ClipModel, encode_images, encode_texts

Array = NDArray[np.float32]


def gate_bound(precision: Precision) -> GoldenBound:
    """The verdict's gate of that precision."""
    gate = GATES[precision]
    return GoldenBound(max_abs_difference=gate.max_abs_difference, min_centred_cosine=gate.min_centred_cosine)


def make_golden(
    clip: ClipModel, reference: Reference, engines: tuple[Engine, ...], opened: Mapping[str, Encoders]
) -> Golden:
    """Golden vectors of `clip`, with a bound for each of `engines`.

    Args:
        reference: of the verdict; its embeddings of real pictures and texts have the centre.
        opened: the engines that this machine can run, by name; the bound of any other, and of one whose verdict
            is failed, is its gate.

    Raises:
        ModelError: an engine can't run a batch.
    """
    pictures = golden_pictures()
    pixels = np.stack([load_pixels(picture, clip.pixels) for picture in pictures])
    tokens = Tokenizer(clip.tokenizer_json, clip.text).encode(list(TEXTS))
    with torch.no_grad():
        image = encode_images(clip, torch.from_numpy(pixels)).numpy()
        text = encode_texts(clip, torch.from_numpy(tokens)).numpy()
    centres = reference.images.expected.mean(axis=0), reference.texts.expected.mean(axis=0)
    bounds = {
        engine.name: _bound(engine, opened.get(engine.name), (pixels, tokens), (image, text), centres)
        for engine in engines
    }
    made = golden(pictures, GoldenVectors.of(image, centres[0]), GoldenVectors.of(text, centres[1]))
    return made.model_copy(update={"bounds": bounds})


def _bound(
    engine: Engine,
    encoders: Encoders | None,
    inputs: tuple[NDArray[Any], NDArray[Any]],
    expected: tuple[Array, Array],
    centres: tuple[Array, Array],
) -> GoldenBound:
    bound = gate_bound(engine.precision)
    if encoders is None or not engine.verdict.passed:
        return bound
    for encode, batch, rows, centre in zip(
        (encoders.image, encoders.text), inputs, expected, centres, strict=True
    ):
        difference, cosine = deviation(rows, encode(batch), centre)
        bound = loosened(bound, difference, cosine)
    return bound

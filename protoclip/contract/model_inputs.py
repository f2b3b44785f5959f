"""A model's inputs: normalised pictures of one size, and tokens."""

from __future__ import annotations

from dataclasses import dataclass

from .pixels import PixelSpec
from .text import Tokenizer


@dataclass(frozen=True)
class ModelInputs:
    """How pictures and texts become a model's input.

    Attributes:
        mean, std: of the pictures' channels, for values in [0, 1].
    """

    pixels: PixelSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tokenizer: Tokenizer

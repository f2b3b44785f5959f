"""Text, one implementation: from strings to token ids for training, server and client.

This file needs NumPy, ftfy and tokenizers only: the Triton preprocessing model carries a copy of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


class TextError(ValueError):
    """A text can't be used; the message is one line."""


@dataclass(frozen=True)
class TextSpec:
    """How a text becomes the encoder's input."""

    context_length: int
    cleaner: Literal["lower", "whitespace", "canonicalize", "none"] = "lower"


def check_text(text: object) -> str: ...


class Tokenizer:
    """Texts to ids."""

    def __init__(self, tokenizer_json: str, spec: TextSpec) -> None: ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.int32]: ...

"""A world of painted pictures whose scores are known: a picture is one colour, its text is the colour's name.

The model is a `ClipModel` like any other; its image tower takes the mean colour, its text tower looks words
up in a table.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from protoclip.contract.pixels import PixelSpec
from protoclip.contract.text import TextSpec
from protoclip.encoders.model import ClipModel
from protoclip.sources import Pairs

COLOURS = {
    "red": (220, 20, 20),
    "orange": (220, 120, 20),
    "yellow": (220, 210, 60),
    "brown": (120, 60, 20),
    "pink": (240, 120, 160),
    "blue": (20, 40, 220),
    "cyan": (20, 200, 220),
    "navy": (10, 60, 120),
    "teal": (10, 120, 140),
    "violet": (120, 20, 220),
    "scarlet": (220, 60, 40),
    "azure": (60, 120, 240),
}
UNSEEN = ("scarlet", "azure")
BRIGHTNESS = {"flat": 1.0, "dim": 0.7, "new": 0.85}
CONTEXT = 8


class PaintedModule(torch.nn.Module):
    """Image: the mean colour. Text: the sum of its known words' colours."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(table, requires_grad=False)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table[tokens].sum(dim=1)


def paint(colour: tuple[int, int, int], brightness: float = 1.0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), tuple(round(part * brightness) for part in colour)).save(stream, "PNG")
    return stream.getvalue()


def kind(name: str) -> str:
    return "warm" if COLOURS[name][0] > COLOURS[name][2] else "cold"


def split_of(name: str, style: str) -> str:
    if name in UNSEEN:
        return "unseen_both" if style == "new" else "unseen_concept"
    return "unseen_style" if style == "new" else "train"


@pytest.fixture
def painted_pairs() -> Pairs:
    orders = {"flat": list(COLOURS), "dim": list(COLOURS)[::-1], "new": list(COLOURS)}
    rows = [(name, style) for style, names in orders.items() for name in names]
    columns = {
        "concept": [f"c{list(COLOURS).index(name)}" for name, _ in rows],
        "kind": [kind(name) for name, _ in rows],
        "split": [split_of(name, style) for name, style in rows],
    }
    return Pairs(
        images=[paint(COLOURS[name], BRIGHTNESS[style]) for name, style in rows],
        texts=tuple((name, f"a {style} {name}") for name, style in rows),
        columns={name: np.array(values, dtype=object) for name, values in columns.items()},
    )


@pytest.fixture
def painted_clip() -> Callable[..., ClipModel]:
    """Makes the model; `names` says which colour each word stands for where it is not its own."""

    def make(**names: str) -> ClipModel:
        words = {"[PAD]": (0, 0, 0), "[UNK]": (0, 0, 0), "warm": (220, 100, 20), "cold": (20, 100, 220)}
        words |= {word: COLOURS[names.get(word, word)] for word in COLOURS}
        tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.enable_padding(length=CONTEXT, pad_id=0, pad_token="[PAD]")
        tokenizer.enable_truncation(CONTEXT)
        return ClipModel(
            module=PaintedModule(torch.tensor(list(words.values()), dtype=torch.float32)).eval(),
            source="painted",
            model_name="painted",
            model_config={},
            pixels=PixelSpec(height=8, width=8),
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            text=TextSpec(context_length=CONTEXT),
            tokenizer_json=tokenizer.to_str(),
            temperature=100.0,
            logit_bias=None,
            embedding_dim=3,
            tokenizer_id="painted",
        )

    return make

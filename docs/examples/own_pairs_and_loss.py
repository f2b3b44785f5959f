"""Trains on pictures that a program draws, with a loss of its own: python own_pairs_and_loss.py runs/discs"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from protoclip import Pairs, build_config, train

COLOURS = ("red", "green", "blue", "orange", "purple", "brown", "black", "pink")
TEXTS = [f"a {colour} disc of radius {radius}" for colour in COLOURS for radius in range(4, 20)]


class Discs(Sequence):
    """A sequence of picture files as bytes, each made, or fetched from where it lies, when it is asked for."""

    def __len__(self):
        return len(TEXTS)

    def __getitem__(self, row):
        image, radius = Image.new("RGB", (48, 48), "white"), 4 + row % 16
        ImageDraw.Draw(image).ellipse((24 - radius, 24 - radius, 24 + radius, 24 + radius), COLOURS[row // 16])
        image.save(stream := io.BytesIO(), "PNG")
        return stream.getvalue()


def distance(projected, rows):
    """Half the mean squared distance of a picture and its own text; both [b, D] of unit norm."""
    return 0.5 * (projected.z_image - projected.z_text).square().sum(dim=1).mean()


pairs = Pairs(images=Discs(), texts=tuple((text,) for text in TEXTS), columns={})
settings = {
    "data": {"path": "drawn by Discs"},
    "model": {"name": "protoclip-mini-48"},
    "train": {"batch_size": 32, "steps": 12},
}
train(build_config(settings, "discs"), Path(sys.argv[1]), pairs=pairs, extra_losses={"distance": distance})

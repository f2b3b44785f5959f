"""An index of a few pictures, with prices, for tests of the gateway."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from picture_bytes import saved
from PIL import Image

from protoclip.client import Client
from protoclip.search import Index

COLORS = {"red": (250, 20, 10), "green": (20, 200, 40), "blue": (10, 30, 240), "grey": (120, 120, 120)}
ODD_NAME = "<img src=x onerror=alert(1)> größe.png"
NO_UTF8 = os.fsdecode(b"caf\xe9.png")


@dataclass(frozen=True)
class Shop:
    """An index and the folder that it was built from."""

    index: Path
    pictures: Path


def picture(color: tuple[int, int, int], seed: int = 0, size: int = 40) -> bytes:
    """A PNG of one colour with some noise in it."""
    noise = np.random.default_rng(seed).integers(-20, 20, (size, size, 3))
    return saved(Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)))


def make_shop(folder: Path, artifact: Path) -> Shop:
    """Twelve pictures in four colours; two have odd names."""
    pictures = folder / "pictures"
    (pictures / "sub").mkdir(parents=True)
    names = [f"{color}{number}.png" for color in COLORS for number in range(2)]
    names += [f"sub/{color}.png" for color in ("red", "blue")] + [ODD_NAME, NO_UTF8]
    metadata = {}
    for number, name in enumerate(names):
        color = list(COLORS)[number // 2 % 4]
        (pictures / name).write_bytes(picture(COLORS[color], number))
        metadata[name] = {"color": color, "price": number * 10}
    with Client(str(artifact)) as client:
        Index.build(folder / "shop.index", client, pictures, metadata).close()
    return Shop(folder / "shop.index", pictures)

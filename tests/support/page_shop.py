"""A gateway over an index of coloured pictures, whose model tells colours: for tests of the page."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from asgi_calls import Answer, ask, form_body
from PIL import Image

from protoclip.client import AsyncClient, Client, InMemoryTransport, MemoryModel
from protoclip.contract.pixels import PixelSpec, load_pixels
from protoclip.search import Index
from serving.gateway.app import create_app
from serving.gateway.class_banks import ClassBanks
from serving.gateway.indexes import Indexes
from serving.gateway.settings import make_settings
from serving.gateway.state import Gateway

FINGERPRINT = "0123456789abcdef"
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
HOSTILE = "<script>alert(1)</script>&\"'"


class Shop:
    """A gateway over 61 coloured pictures, whose model tells colours; `away` is why it does not answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.away: Exception | None = None
        self._write_pictures()
        model = MemoryModel(self._embed_image, self._embed_text, 3, name="colours", fingerprint=FINGERPRINT)
        transport = InMemoryTransport(model)
        with Client(transport=transport) as client:
            Index.build(folder / "shop.index", client, folder / "photos", folder / "photos.csv").close()
        settings = make_settings(port=0, indexes={"shop": folder / "shop.index"}, pictures_as_built=True)
        self.client = AsyncClient(transport=InMemoryTransport(model), timeout_s=2)
        self.gateway = Gateway(self.client, settings, Indexes(settings.indexes), ClassBanks({}))
        self.app = create_app(self.gateway)

    def _write_pictures(self) -> None:
        rng = np.random.default_rng(0)
        (self.folder / "photos").mkdir()
        lines = ["image,title,price,stock,kind"]
        for number in range(60):
            name, colour = list(COLOURS.items())[number % 4]
            noisy = np.clip(np.array(colour) * 0.8 + rng.integers(0, 50, 3), 0, 255).astype(np.uint8)
            Image.new("RGB", (8, 8), tuple(noisy.tolist())).save(self.folder / "photos" / f"{number:02}.png")
            lines.append(f"{number:02}.png,{name} {number},{number},{'true' if number % 2 else 'false'},{name}")
        Image.new("RGB", (8, 8), (250, 0, 0)).save(self.folder / "photos" / "a <b>&'.png")
        written = HOSTILE.replace('"', '""')
        lines.append(f'a <b>&\'.png,"{written}",999,true,red')
        (self.folder / "photos.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _embed_image(self, data: bytes) -> Any:
        self._check()
        return load_pixels(data, PixelSpec(4, 4)).mean(axis=(0, 1)) + 1.0

    def _embed_text(self, text: str) -> Any:
        self._check()
        if text not in COLOURS:
            raise ValueError(f"{text} is no colour")
        return np.array(COLOURS[text]) + 1.0

    def _check(self) -> None:
        if self.away is not None:
            raise self.away

    def get(self, path: str) -> Answer:
        return ask(self.app, path)

    def give(self, data: bytes, *, json: bool = False, name: str = "mine.png") -> Answer:
        headers, body = form_body({}, {"picture": (name, data)})
        if json:
            headers["accept"] = "application/json"
        return ask(self.app, "/?index=shop", method="POST", headers=headers, body=body)


def png(colour: str) -> bytes:
    """A picture of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), COLOURS[colour]).save(stream, "PNG")
    return stream.getvalue()

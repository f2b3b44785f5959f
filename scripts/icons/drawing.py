"""Icons to pictures: 64 × 64 pixels, RGB, black or in their colours on white, as PNG files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import resvg_py
from PIL import Image

from .sets import Icon

SIZE = 64
BLANK = "blank: one colour all over"
_AT_ONCE = 64


@dataclass(frozen=True)
class Drawn:
    """A PNG file, or the reason why there is none."""

    png: bytes = b""
    reason: str = ""


def draw(icon: Icon) -> Drawn:
    """The picture of an icon, centred and as large as its longer side allows; a bad or blank one has a reason."""
    try:
        rendered = resvg_py.svg_to_bytes(svg_string=svg_of(icon), background="#ffffff", skip_system_fonts=True)
    except ValueError as error:
        return Drawn(reason=f"bad SVG: {' '.join(str(error).split())}")
    image = Image.open(io.BytesIO(rendered)).convert("RGB")
    if all(low == high for low, high in image.getextrema()):
        return Drawn(reason=BLANK)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return Drawn(stream.getvalue())


def svg_of(icon: Icon) -> str:
    """The whole drawing; "currentColor" in it is black."""
    box = " ".join(f"{side:g}" for side in icon.box)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{SIZE}" height="{SIZE}" color="black">{icon.body}</svg>'
    )


def drawn_by(executor: Executor, icons: Sequence[Icon]) -> Iterator[Drawn]:
    """The pictures of all icons in their order, drawn by the executor's workers."""
    return executor.map(draw, icons, chunksize=_AT_ONCE)

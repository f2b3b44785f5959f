"""A picture of some concepts in all styles: `python -m scripts.build_corpus.contact_sheet`."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from protoclip.contract.files import write_bytes

from .rendering import SIZE
from .sources import STYLES

ROOT = Path(__file__).parents[2]
LABELS = (
    "smiling face with sunglasses",
    "dog face",
    "waving hand",
    "police officer",
    "tiger",
    "octopus",
    "mushroom",
    "hamburger",
    "rocket",
    "guitar",
    "umbrella with rain drops",
    "recycling symbol",
)
MARGIN, NAME_WIDTH = 6, 76


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.build_corpus.contact_sheet", description=__doc__)
    parser.add_argument("--corpus", type=Path, default=ROOT / "protoclip/demo/corpus")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/img/corpus.png")
    options = parser.parse_args()
    stream = io.BytesIO()
    # 256 colours are enough for flat drawings, and a third of the bytes.
    draw_sheet(options.corpus).quantize(256, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    write_bytes(options.out, stream.getvalue())
    return 0


def draw_sheet(corpus: Path) -> Image.Image:
    """One row a style, one column a label of LABELS; empty where a style has no such drawing."""
    step = SIZE + MARGIN
    sheet = Image.new("RGB", (NAME_WIDTH + len(LABELS) * step, len(STYLES) * step + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for row, style in enumerate(STYLES):
        top = MARGIN + row * step
        draw.text((MARGIN, top + SIZE // 2 - 6), style.name, fill="black", font=ImageFont.load_default(12))
        pictures = _pictures(corpus / f"{style.name}.parquet")
        for column, label in enumerate(LABELS):
            if label in pictures:
                picture = Image.open(io.BytesIO(pictures[label])).convert("RGB")
                sheet.paste(picture, (NAME_WIDTH + column * step, top))
    return sheet


def _pictures(path: Path) -> dict[str, bytes]:
    table = pq.read_table(path, columns=["label", "image"])
    return dict(zip(table["label"].to_pylist(), table["image"].to_pylist(), strict=True))


if __name__ == "__main__":
    raise SystemExit(main())

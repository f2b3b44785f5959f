"""Known pictures, near and far strangers of the study of PALM, from the bundled corpus and by script.

Two of the nine categories are held out whole: near strangers. Of the others a fifth of the concepts, in all
styles, is never trained on: the known to compare with. Far strangers are textures and noise.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from protoclip.contract.files import atomic_path

CORPUS = Path("protoclip/demo/corpus")
HELD_OUT, UNSEEN, NUM_FAR, SIZE = 2, 0.2, 400, 64


@dataclass(frozen=True)
class Parts:
    """Attributes:
    train: table that a run reads, with the columns image, label and category.
    held_out: the categories that are near strangers.
    unseen: known pictures that are not trained on, encoded.
    near: strangers of the corpus.
    far: strangers by script, by their names.
    """

    train: Path
    held_out: tuple[str, ...]
    unseen: list[bytes]
    near: list[bytes]
    far: dict[str, list[bytes]]

    @property
    def compared(self) -> dict[str, list[bytes]]:
        """All that is not trained on."""
        return {"unseen": self.unseen, "near": self.near, **self.far}


def prepare(seed: int, out: Path) -> Parts:
    """The parts of a seed; the table is written where it is not there yet."""
    tables = [parquet.read_table(path) for path in sorted(CORPUS.glob("*.parquet"))]
    columns = ["image", "label", "category", "concept"]
    rows = pa.concat_tables(table.select(columns) for table in tables)
    categories, concepts = (np.array(rows.column(name).to_pylist()) for name in ("category", "concept"))
    draw = np.random.default_rng(seed)
    # Flags are all alike: strangers that are easily told would hide what differs.
    names = [name for name in np.unique(categories).tolist() if name != "flags"]
    held_out = tuple(sorted(draw.permutation(names)[:HELD_OUT].tolist()))
    distinct = np.unique(concepts)
    unseen_concepts = distinct[draw.random(len(distinct)) < UNSEEN]
    near = np.isin(categories, held_out)
    unseen = ~near & np.isin(concepts, unseen_concepts)
    path = out / f"known_{seed}.parquet"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            parquet.write_table(rows.filter(pa.array(~near & ~unseen)), temporary, row_group_size=512)
    images = rows.column("image")
    return Parts(
        path,
        held_out,
        images.filter(pa.array(unseen)).to_pylist(),
        images.filter(pa.array(near & np.isin(concepts, unseen_concepts))).to_pylist(),
        {
            "textures": [_encoded(_texture(draw)) for _ in range(NUM_FAR)],
            "noise": [_encoded(_noise(draw)) for _ in range(NUM_FAR)],
        },
    )


def labels_of(path: Path) -> tuple[list[bytes], list[str]]:
    """The pictures of a table of `prepare` with their categories."""
    table = parquet.read_table(path)
    return table.column("image").to_pylist(), table.column("category").to_pylist()


def _texture(draw: np.random.Generator) -> NDArray[np.float64]:
    """Two colours, mixed by a grating, a chequerboard, rings, or smooth blobs."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    angle, rate, phase = draw.uniform(0, np.pi), draw.uniform(2, 12), draw.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    kind = draw.integers(4)
    if kind == 0:
        wave = np.sin(2 * np.pi * rate * along + phase)
    elif kind == 1:
        wave = np.sign(np.sin(2 * np.pi * rate * along + phase) * np.sin(2 * np.pi * rate * across + phase))
    elif kind == 2:
        wave = np.sin(2 * np.pi * rate * np.hypot(x - draw.random(), y - draw.random()) + phase)
    else:
        coarse = draw.normal(size=(int(rate) + 2, int(rate) + 2))
        wave = np.asarray(
            Image.fromarray(coarse.astype(np.float32)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        )
        wave = np.tanh(wave)
    share = (wave[..., None] + 1) / 2
    first, second = draw.random((2, 3))
    return 255 * (share * first + (1 - share) * second)


def _noise(draw: np.random.Generator) -> NDArray[np.float64]:
    """Each pixel for itself, grey or coloured, evenly or normally distributed."""
    shape = (SIZE, SIZE, 3 if draw.random() < 0.5 else 1)
    pixels = 255 * draw.random(shape) if draw.random() < 0.5 else draw.normal(128, draw.uniform(20, 64), shape)
    return np.broadcast_to(pixels, (SIZE, SIZE, 3))


def _encoded(pixels: NDArray[np.float64]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()

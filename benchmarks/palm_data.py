"""Known pictures, near and far strangers of the study of PALM, from the bundled corpus and by script.

Two of the nine categories are held out whole: near strangers. Of the others a fifth of the concepts, in all
styles, is never trained on: the known to compare with. Far strangers are textures and noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from far_made import noise, textures
from pyarrow import parquet

from protoclip.contract.files import atomic_path

CORPUS = Path("protoclip/demo/corpus")
HELD_OUT, UNSEEN, NUM_FAR = 2, 0.2, 400


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
            "textures": textures(draw, NUM_FAR),
            "noise": noise(draw, NUM_FAR),
        },
    )


def labels_of(path: Path) -> tuple[list[bytes], list[str]]:
    """The pictures of a table of `prepare` with their categories."""
    table = parquet.read_table(path)
    return table.column("image").to_pylist(), table.column("category").to_pylist()

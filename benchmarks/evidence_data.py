"""The two corpora with the parts of the study's protocol (docs/results/protocol.md) as a column.

Of the training cell a tenth of the sets and a tenth of the names are held out for choosing; `part` says where a
row is: train, val_style, val_concept, val_both, or its test cell. `class` is the name where that is one of the
commonest of the training part, and empty elsewhere; of the bundled corpus, its subcategory.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from protoclip.contract.errors import DataError
from protoclip.contract.files import atomic_path

VALIDATION = {(True, False): "val_style", (False, True): "val_concept", (True, True): "val_both"}


def held_out(what: str, name: str) -> bool:
    """A tenth of the names; `what` draws the tenths of sets, of names, and those of the test cells apart."""
    return int(hashlib.md5(f"{what}{name}".encode()).hexdigest(), 16) % 10 == 0


def part_of(split: str, icon_set: str, text: str) -> str:
    """Test cells keep their names; the training cell is split into train and validation parts."""
    if split != "train":
        return split
    chosen = held_out("validation set ", icon_set), held_out("validation name ", text)
    return VALIDATION.get(chosen, "train")


def prepare(source: Path, out: Path, num_files: int, num_classes: int) -> Path:
    """Writes the first `num_files` files of `make icons` with `part` and `class`; what is there stays.

    Raises:
        DataError: there are fewer files.
    """
    path = out / f"icons_{num_files}_{num_classes}.parquet"
    files = sorted(source.glob("*.parquet"))[:num_files]
    if not path.exists():
        if len(files) < num_files:
            raise DataError(
                f"{source}: holds {len(files)} Parquet files, {num_files} are needed: run `make icons`"
            )
        table = pa.concat_tables(parquet.read_table(file) for file in files)
        rows = [table.column(name).to_pylist() for name in ("split", "set", "text")]
        parts = [part_of(*row) for row in zip(*rows, strict=True)]
        trained = Counter(text for part, text in zip(parts, rows[2], strict=True) if part == "train")
        # Ties go by name, so that the classes do not depend on the order of rows.
        commonest = {
            text for text, _ in sorted(trained.items(), key=lambda item: (-item[1], item[0]))[:num_classes]
        }
        classes = [text if text in commonest else "" for text in rows[2]]
        table = table.append_column("part", pa.array(parts)).append_column("class", pa.array(classes))
        out.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            parquet.write_table(table, temporary, row_group_size=1024)
    return path


def validation_style(styles: Iterable[str]) -> str:
    """Of so few that a tenth may be none: the one with the least hash."""
    return min(styles, key=lambda style: hashlib.md5(f"validation set {style}".encode()).hexdigest())


def prepare_bundled(source: Path, out: Path) -> Path:
    """Writes the bundled corpus' files as one, with `part` and `class`; what is there stays."""
    path = out / "bundled.parquet"
    if not path.exists():
        table = pa.concat_tables(parquet.read_table(file) for file in sorted(source.glob("*.parquet")))
        rows = list(zip(*(table.column(name).to_pylist() for name in ("split", "style", "concept")), strict=True))
        chosen = validation_style({style for split, style, _ in rows if split == "train"})
        parts = [
            VALIDATION.get((style == chosen, held_out("validation name ", concept)), "train")
            if split == "train"
            else split
            for split, style, concept in rows
        ]
        table = table.append_column("part", pa.array(parts)).append_column("class", table.column("subcategory"))
        out.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            parquet.write_table(table, temporary, row_group_size=1024)
    return path

"""The two forms of the corpus: Parquet files and WebDataset shards with the same pairs in the same order."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from protoclip.contract.files import atomic_path

from .sets import Icon

Pictures: TypeAlias = Sequence[tuple[Icon, bytes]]

COLUMNS = ("set", "icon", "license", "split")
SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("text", pa.string()),
        *((name, pa.string()) for name in COLUMNS),
    ]
)
_ROWS_PER_GROUP = 1024
_STORED = ("image.bytes", "image.path")


def write_parquet(pictures: Pictures, path: Path) -> None:
    """Writes one row a picture: `image`, `text` and COLUMNS; the same bytes for the same rows and pyarrow.

    PNG files don't compress any further, and their minimum and maximum would only fill the footer.
    """
    rows = [
        {"image": {"bytes": png, "path": f"{icon.key}.png"}, "text": icon.text, **_facts(icon)}
        for icon, png in pictures
    ]
    with atomic_path(path) as temporary:
        pq.write_table(
            pa.Table.from_pylist(rows, schema=SCHEMA),
            temporary,
            row_group_size=_ROWS_PER_GROUP,
            compression=dict.fromkeys(_STORED, "NONE") | dict.fromkeys(("text", *COLUMNS), "ZSTD"),
            use_dictionary=["set", "license", "split"],
            write_statistics=["set", "split"],
        )


def write_shard(pictures: Pictures, path: Path) -> None:
    """Writes a tar with `KEY.png`, `KEY.txt` and `KEY.json` for each picture; its bytes depend on them alone."""
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
        for icon, png in pictures:
            facts = json.dumps(_facts(icon))
            for extension, data in (("png", png), ("txt", icon.text.encode()), ("json", facts.encode())):
                member = tarfile.TarInfo(f"{icon.key}.{extension}")
                member.size, member.mode = len(data), 0o644
                tar.addfile(member, io.BytesIO(data))


def read_names(paths: Iterable[Path]) -> list[str]:
    """The keys of all pictures in Parquet files of this form."""
    tables = (pq.read_table(path, columns=["set", "icon"]) for path in paths)
    return [f"{row['set']}/{row['icon']}" for table in tables for row in table.to_pylist()]


def _facts(icon: Icon) -> dict[str, str]:
    return {name: getattr(icon, name) for name in COLUMNS}

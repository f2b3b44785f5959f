"""The corpus files: one parquet table for a style, one row for a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from protoclip.contract.files import atomic_path

from .concepts import Concept, split_of
from .sources import Style

SCHEMA = pa.schema(
    [
        ("image", pa.binary()),
        ("texts", pa.list_(pa.string())),
        ("concept", pa.string()),
        ("label", pa.string()),
        ("category", pa.string()),
        ("subcategory", pa.string()),
        ("style", pa.string()),
        ("license", pa.string()),
        ("split", pa.string()),
    ]
)
ROWS_PER_GROUP = 512


def style_table(style: Style, pictures: Mapping[str, bytes], concepts: list[Concept]) -> pa.Table:
    """The rows of one style in the order of `concepts`; `pictures` maps concept codes to WebP files."""
    rows = [
        {
            "image": pictures[concept.code],
            "texts": list(concept.texts),
            "concept": concept.code,
            "label": concept.label,
            "category": concept.category,
            "subcategory": concept.subcategory,
            "style": style.name,
            "license": style.license,
            "split": split_of(concept.code, style.name),
        }
        for concept in concepts
        if concept.code in pictures
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def write_table(table: pa.Table, path: Path) -> None:
    """Writes `table`, the same bytes for the same rows and the same pyarrow.

    WebP files don't compress any further, and their minimum and maximum would only fill the footer.
    """
    names = table.column_names
    with atomic_path(path) as temporary:
        pq.write_table(
            table,
            temporary,
            row_group_size=ROWS_PER_GROUP,
            compression={name: "NONE" if name == "image" else "ZSTD" for name in _leaves(table.schema)},
            use_dictionary=[name for name in names if name not in ("image", "texts", "feature")],
            write_statistics=[name for name in names if name in ("concept", "split")],
        )


def _leaves(schema: pa.Schema) -> list[str]:
    """Parquet's column paths: a list's values are stored below it."""
    return [f"{f.name}.list.element" if pa.types.is_nested(f.type) else f.name for f in schema]

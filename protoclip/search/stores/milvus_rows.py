"""Entries as rows of a collection in Milvus, and back. `D` embedding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from protoclip.client.results import Hit
from protoclip.contract.errors import ConfigError
from protoclip.search.entries import Entry, Label, id_text
from protoclip.search.vectors import Array

from .engine_facts import hit
from .milvus_filters import fields_of

_MAX_BYTES = 65_535


def digest_of(name: bytes) -> str:
    """An id may be of any length, and hold what Milvus' texts can't."""
    return hashlib.sha256(name).hexdigest()


def row_of(label: Label, vector: Array) -> dict[str, Any]:
    """The row of an entry.

    Raises:
        ConfigError: it takes more bytes than Milvus holds.
    """
    name = id_text(label.id)
    row = {
        "digest": digest_of(label.id),
        "name": _as_json(name),
        "metadata": label.metadata,
        "fields": fields_of(label.decoded()),
        "vector": vector.tolist(),
    }
    for what, text in (("id", row["name"]), ("metadata", label.metadata), ("metadata", json.dumps(row["fields"]))):
        taken = len(text.encode())
        if taken > _MAX_BYTES:
            raise ConfigError(
                f"the {what} of {name[:80]!r} takes {taken:,} bytes as Milvus stores it, which holds up to "
                f"{_MAX_BYTES:,} for each entry"
            )
    return row


def _as_json(name: str) -> str:
    """JSON writes out what Milvus' texts can't hold: NUL, and bytes of file names that are no UTF-8."""
    written = json.dumps(name, ensure_ascii=False)
    try:
        written.encode()
    except UnicodeEncodeError:
        return json.dumps(name)
    return written


def entry_of(row: Mapping[str, Any]) -> Entry:
    """The reverse of `row_of`."""
    return Entry(json.loads(row["name"]), json.loads(row["metadata"]), np.array(row["vector"], dtype=np.float32))


def hit_of(row: Mapping[str, Any]) -> Hit:
    """What a search gives of a row."""
    entity = row["entity"]
    return hit(json.loads(entity["name"]), float(row["distance"]), json.loads(entity["metadata"]))


def parts_of(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """`values` in lists of `size`, the last one shorter."""
    left = iter(values)
    while part := list(islice(left, size)):
        yield part

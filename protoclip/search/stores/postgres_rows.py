"""Entries as rows of a table in PostgreSQL, and back. `D` embedding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from psycopg import errors

from protoclip.contract.errors import ConfigError
from protoclip.search.entries import Entry, Label, id_text, is_twice
from protoclip.search.vectors import Array


def digests_of(names: Sequence[bytes]) -> list[bytes]:
    """By which the table finds ids, of any length."""
    return [hashlib.sha256(name).digest() for name in names]


def written_vector(row: Array) -> str:
    """A vector as pgvector reads it, each float32 by digits that give it back."""
    return f"[{','.join(map(repr, row.tolist()))}]"


def entry_of(row: Any) -> Entry:
    """Of id, metadata and vector."""
    name, metadata, vector = row
    return Entry(id_text(name), json.loads(metadata), np.array(vector, dtype=np.float32))


def taken_error(error: errors.UniqueViolation, labels: dict[bytes, Label]) -> ConfigError:
    """The error for the id that an insert found taken."""
    detail = error.diag.message_detail or ""
    return is_twice(next((label.id for digest, label in labels.items() if digest.hex() in detail), b"?"))

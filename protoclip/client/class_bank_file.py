"""A ClassBank as one safetensors file: the vectors, and the rest as JSON in its metadata. `C` classes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from protoclip.contract.record_file import RecordFile

from .transport import Array

_UNIT_NORM = 1e-3


class ClassBankRecord(BaseModel):
    """What the file holds beside the vectors, under `class_bank` in the metadata of safetensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    model: str = Field(description="prefix of the model that made the vectors")
    fingerprint: str = Field(min_length=1, description="of that model")
    labels: tuple[str, ...] = Field(min_length=1, description="[C], each once")
    templates: tuple[str, ...] = Field(min_length=1, description="texts with one {} each")


_FILE = RecordFile("class_bank", ClassBankRecord, "classes", "protoclip classes build", "build the classes again")


def write_class_bank(path: Path, record: ClassBankRecord, vectors: Array) -> None:
    """Writes the file under a temporary name, and renames it.

    Raises:
        ProtoclipError: it can't be written.
    """
    _FILE.write(path, record, {"vectors": vectors})


def read_class_bank(path: Path) -> tuple[ClassBankRecord, Array]:
    """What `write_class_bank` wrote.

    Raises:
        ModelError: no such file, another kind of file, or a damaged one.
    """
    record, arrays = _FILE.read(path)
    vectors = arrays.get("vectors")
    if vectors is None or not _fits(vectors, record):
        raise _FILE.damaged(path, f"{len(record.labels)} labels need as many vectors")
    return record, vectors


def _fits(vectors: Array, record: ClassBankRecord) -> bool:
    """Whether there are `[C, D]` finite float32 numbers, of unit norm or zero, for C different labels."""
    count = len(record.labels)
    if vectors.ndim != 2 or vectors.shape[0] != count or vectors.dtype != np.float32:
        return False
    norms = np.linalg.norm(vectors, axis=1)
    return bool((np.isclose(norms, 1, atol=_UNIT_NORM) | (norms == 0)).all()) and len(set(record.labels)) == count

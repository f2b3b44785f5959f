"""A detector as one safetensors file: its arrays, and the rest as JSON in the file's metadata."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from protoclip.contract.record_file import Arrays, RecordFile, sha256_of

from .trained import BEHIND


class ThresholdRecord(BaseModel):
    """As `protoclip.detection.threshold.Threshold`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: FiniteFloat
    accept: float = Field(ge=0.5, lt=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    num: int = Field(ge=1)


class DetectorRecord(BaseModel):
    """What the file holds beside the arrays, under `detector` in the metadata of safetensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    kind: str = Field(min_length=1)
    model: str = Field(description="prefix of the model whose embeddings it is for")
    fingerprint: str = Field(description="of that model")
    embedding_dim: int = Field(ge=1)
    classes: tuple[str, ...] = Field(description="names of the known kinds")
    num_fit: int = Field(ge=0)
    threshold: ThresholdRecord | None = Field(description="none where it was made without known pictures")
    sha256: str | None = Field(
        None,
        description="of the arrays, in files of an earlier version; that of new ones stands beside the record",
    )


_FILE = RecordFile("detector", DetectorRecord, "a detector", "protoclip detect fit", "fit the detector again")


def write_detector(path: Path, record: DetectorRecord, arrays: Arrays) -> None:
    """Writes the file under a temporary name, and renames it.

    Raises:
        ProtoclipError: it can't be written.
    """
    _FILE.write(path, record, arrays)


def read_detector(path: Path, make: Callable[[str, Arrays], object]) -> tuple[DetectorRecord, Arrays]:
    """What `write_detector` wrote.

    Args:
        make: has to take the kind and the arrays.

    Raises:
        ModelError: no such file, another kind of file, a damaged one, or arrays that `make` does not take.
    """
    record, arrays = _FILE.read(path)
    if record.sha256 is not None and record.sha256 != sha256_of(arrays):
        raise _FILE.damaged(path)
    try:
        make(record.kind, arrays)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _FILE.damaged(path) from error
    if not _fit(arrays, record.embedding_dim):
        raise _FILE.damaged(path)
    return record, arrays


def _fit(arrays: Arrays, dim: int) -> bool:
    """Whether all are finite, and those of embeddings `dim` wide."""
    of_embeddings = (array for name, array in arrays.items() if array.ndim > 1 and not name.startswith(BEHIND))
    wide = all(array.shape[1] == dim for array in of_embeddings)
    finite = all(np.isfinite(array).all() for array in arrays.values())
    return "centre" in arrays and arrays["centre"].shape == (dim,) and wide and finite

"""A detector as one safetensors file: its arrays, and the rest as JSON in the file's metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from protoclip.contract.errors import ModelError
from protoclip.contract.files import write_bytes
from protoclip.contract.first_fault import first_fault

from .trained import BEHIND

_KEY = "detector"
_MADE_BY = "name a file that `protoclip detect fit` wrote"
Arrays = Mapping[str, NDArray[Any]]


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
    threshold: ThresholdRecord
    sha256: str | None = Field(None, description="of the arrays; none in a file of an earlier version")


def write_detector(path: Path, record: DetectorRecord, arrays: Arrays) -> None:
    """Writes the file under a temporary name, and renames it.

    Raises:
        ProtoclipError: it can't be written.
    """
    from safetensors.numpy import save

    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    hashed = record.model_copy(update={"sha256": _sha256(tensors)})
    write_bytes(path, save(tensors, {_KEY: hashed.model_dump_json()}))


def read_detector(path: Path, make: Callable[[str, Arrays], object]) -> tuple[DetectorRecord, Arrays]:
    """What `write_detector` wrote.

    Args:
        make: has to take the kind and the arrays.

    Raises:
        ModelError: no such file, another kind of file, a damaged one, or arrays that `make` does not take.
    """
    found, arrays = _read(path)
    if found is None:
        raise ModelError(f"{path}: holds no detector: {_MADE_BY}")
    try:
        record = DetectorRecord.model_validate_json(found)
    except ValidationError as error:
        raise ModelError(f"{path}: {first_fault(error)}: fit the detector again") from None
    _check(path, record, arrays, make)
    return record, arrays


def _read(path: Path) -> tuple[str | None, Arrays]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            record = (file.metadata() or {}).get(_KEY)
            if record is None:
                return None, {}
            # A safetensors file is no mapping.
            return record, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise ModelError(f"{path}: can't be read as a detector ({reason}): {_MADE_BY}") from error


def _sha256(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    return digest.hexdigest()


def _check(path: Path, record: DetectorRecord, arrays: Arrays, make: Callable[[str, Arrays], object]) -> None:
    damaged = f"{path}: damaged: fit the detector again"
    if record.sha256 is not None and record.sha256 != _sha256(arrays):
        raise ModelError(damaged)
    try:
        make(record.kind, arrays)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(damaged) from error
    of_embeddings = (array for name, array in arrays.items() if array.ndim > 1 and not name.startswith(BEHIND))
    wide = all(array.shape[1] == record.embedding_dim for array in of_embeddings)
    finite = all(np.isfinite(array).all() for array in arrays.values())
    if "centre" not in arrays or arrays["centre"].shape != (record.embedding_dim,) or not wide or not finite:
        raise ModelError(damaged)

"""A ClassBank as one safetensors file: the vectors, and the rest as JSON in its metadata. `C` classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protoclip.contract.errors import ModelError
from protoclip.contract.files import write_bytes
from protoclip.contract.first_fault import first_fault

from .transport import Array

_KEY = "class_bank"
_UNIT_NORM = 1e-3


class ClassBankRecord(BaseModel):
    """What the file holds beside the vectors, under `class_bank` in the metadata of safetensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    model: str = Field(description="prefix of the model that made the vectors")
    fingerprint: str = Field(min_length=1, description="of that model")
    labels: tuple[str, ...] = Field(min_length=1, description="[C], each once")
    templates: tuple[str, ...] = Field(min_length=1, description="texts with one {} each")


def write_class_bank(path: Path, record: ClassBankRecord, vectors: Array) -> None:
    """Writes the file under a temporary name, and renames it.

    Raises:
        ProtoclipError: it can't be written.
    """
    from safetensors.numpy import save

    # Its own writer gives a full disk as an error of its own, and writes to a name that is not UTF-8 not at all.
    data = save({"vectors": np.ascontiguousarray(vectors)}, {_KEY: record.model_dump_json()})
    write_bytes(path, data)


def read_class_bank(path: Path) -> tuple[ClassBankRecord, Array]:
    """What `write_class_bank` wrote.

    Raises:
        ModelError: no such file, another kind of file, or a damaged one.
    """
    found, vectors = _read(path)
    if found is None:
        raise ModelError(f"{path}: holds no classes: name a file that `protoclip classes build` wrote")
    try:
        record = ClassBankRecord.model_validate_json(found)
    except ValidationError as error:
        raise ModelError(f"{path}: {first_fault(error)}: build the classes again") from None
    if not _fits(vectors, record):
        raise ModelError(f"{path}: damaged: {len(record.labels)} labels need as many vectors: build them again")
    assert vectors is not None
    return record, vectors


def _read(path: Path) -> tuple[str | None, Any]:
    """The record, and then the vectors; None for what is not there, or of a type that NumPy has not."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            record = (file.metadata() or {}).get(_KEY)
            # A model's own file may have tensors of types that NumPy has not: none of it is touched.
            if record is None or "vectors" not in file.keys():  # noqa: SIM118
                return record, None
            is_float32 = file.get_slice("vectors").get_dtype() == "F32"
            return record, file.get_tensor("vectors") if is_float32 else None
    except (OSError, SafetensorError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise ModelError(
            f"{path}: can't be read as classes ({reason}): name a file that `protoclip classes build` wrote"
        ) from error


def _fits(vectors: Any, record: ClassBankRecord) -> bool:
    """Whether there are `[C, D]` finite float32 numbers, of unit norm or zero, for C different labels."""
    count = len(record.labels)
    if vectors is None or vectors.ndim != 2 or vectors.shape[0] != count or vectors.dtype != np.float32:
        return False
    norms = np.linalg.norm(vectors, axis=1)
    return bool((np.isclose(norms, 1, atol=_UNIT_NORM) | (norms == 0)).all()) and len(set(record.labels)) == count

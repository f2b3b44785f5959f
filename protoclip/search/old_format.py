"""Indexes of the first format (`index.json`, `metadata.jsonl`, `vectors.faiss`): read whole, and converted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.contract.files import sha256_file
from protoclip.contract.first_fault import first_fault
from protoclip.contract.install import install_command
from protoclip.contract.manifest import Sha256

from .entries import Label, make_label
from .places import FINGERPRINT, OLD_FILES
from .vectors import Array

_RECORD_FILE, _METADATA_FILE, _VECTORS_FILE = OLD_FILES
_ROWS = 8192


class OldRecord(BaseModel):
    """The contents of `index.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    model: str = Field(description="name of the model that made the vectors")
    fingerprint: str = Field(pattern=f"^{FINGERPRINT}$", description="of that model")
    dim: int = Field(gt=0)
    count: int = Field(ge=0)
    faiss_type: Literal["IDMap2,Flat"] = Field(description="in the words of faiss's index factory")
    vectors_sha256: Sha256
    metadata_sha256: Sha256
    artifact: str | None = Field(
        default=None,
        min_length=1,
        description="folder of the artifact that made the vectors without a server; None: a server made them",
    )


def load_record(folder: Path) -> OldRecord:
    """Reads `index.json` alone.

    Raises:
        IndexFileError: there is none, or it doesn't fit its schema.
    """
    path = folder / _RECORD_FILE
    try:
        return OldRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise IndexFileError(f"{path}: can't be read ({error.strerror}): build the index again") from None
    except ValidationError as error:
        raise IndexFileError(f"{path}: {first_fault(error)}: build the index again") from None


def read_old(folder: Path, record: OldRecord) -> Iterator[tuple[list[Label], Array]]:
    """All entries in their order, some at a time. Nothing is read of a file before its SHA-256 was compared.

    The hashes detect damage, not manipulation: do not open an index from an untrusted source.

    Raises:
        IndexFileError: a file is missing or damaged.
        ConfigError: faiss isn't installed.
    """
    _check_hash(folder / _VECTORS_FILE, record.vectors_sha256)
    _check_hash(folder / _METADATA_FILE, record.metadata_sha256)
    flat = _flat_index(folder / _VECTORS_FILE, record)
    labels = _labels(folder / _METADATA_FILE)
    read = 0
    while read < record.count:
        part = list(islice(labels, min(_ROWS, record.count - read)))
        if not part:
            break
        vectors = np.asarray(flat.reconstruct_n(read, len(part)), dtype=np.float32)
        read += len(part)
        yield part, vectors
    if read != record.count or next(labels, None) is not None:
        raise IndexFileError(f"{folder / _METADATA_FILE}: not {record.count} entries: build the index again")


def _flat_index(path: Path, record: OldRecord) -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ConfigError(
            "an index of the first format needs faiss to be read, which isn't installed: "
            f"{install_command('cpu')} (or [gpu])"
        ) from error
    try:
        index: Any = faiss.read_index(str(path))
    except RuntimeError as error:
        raise IndexFileError(f"{path}: faiss can't read it: build the index again") from error
    kind = (type(index), index.d, index.ntotal, index.metric_type)
    if kind != (faiss.IndexIDMap2, record.dim, record.count, faiss.METRIC_INNER_PRODUCT):
        raise IndexFileError(
            f"{path}: not an {record.faiss_type} of {record.count} vectors [{record.dim}]: build the index again"
        )
    return _Held(faiss.downcast_index(index.index), index)


class _Held:
    """faiss frees what is inside with what is around it."""

    def __init__(self, inner: Any, outer: Any) -> None:
        self._inner, self._outer = inner, outer

    def reconstruct_n(self, start: int, count: int) -> Any:
        return self._inner.reconstruct_n(start, count)


def _labels(path: Path) -> Iterator[Label]:
    with open(path, encoding="utf-8", newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                fields = json.loads(line)
                label = make_label(fields["id"], fields["metadata"])
            except (KeyError, TypeError, ValueError, ConfigError) as error:
                raise IndexFileError(f"{path}: line {number} isn't readable: build the index again") from error
            yield label


def _check_hash(path: Path, expected: str) -> None:
    try:
        found = sha256_file(path)
    except OSError as error:
        raise IndexFileError(f"{path}: can't be read ({error.strerror}): build the index again") from error
    if found != expected:
        raise IndexFileError(f"{path}: damaged or changed since it was written: build the index again")

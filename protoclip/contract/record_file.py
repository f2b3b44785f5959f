"""Arrays beside one record, in a safetensors file: the record is JSON in its metadata, with a SHA-256 of both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from .errors import ModelError
from .files import write_bytes
from .first_fault import first_fault

Arrays = Mapping[str, NDArray[Any]]
Record = TypeVar("Record", bound=BaseModel)

_HASH = "sha256"
_OF_NUMPY = {"BOOL", "U8", "I8", "U16", "I16", "F16", "U32", "I32", "F32", "U64", "I64", "F64"}


@dataclass(frozen=True)
class RecordFile(Generic[Record]):
    """One kind of such files.

    Attributes:
        key: of the record in the metadata.
        schema: of the record.
        content: what messages call it, such as "a detector".
        made_by: the command that writes such files.
        remedy: what to do with a damaged one, such as "fit the detector again".
    """

    key: str
    schema: type[Record]
    content: str
    made_by: str
    remedy: str

    def write(self, path: Path, record: Record, arrays: Arrays) -> None:
        """Writes the file under a temporary name, and renames it.

        Raises:
            ProtoclipError: it can't be written.
        """
        from safetensors.numpy import save

        tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        text = record.model_dump_json()
        # Its own writer gives a full disk as an error of its own, and writes no name that is not UTF-8.
        write_bytes(path, save(tensors, {self.key: text, _HASH: sha256_of(tensors, text)}))

    def read(self, path: Path) -> tuple[Record, Arrays]:
        """What `write` wrote; a file of an earlier version has no hash, and is not compared with it.

        Arrays of types that NumPy has not, such as bfloat16, are left out.

        Raises:
            ModelError: no such file, another kind of file, or a damaged one.
        """
        metadata, arrays = self._opened(path)
        if self.key not in metadata:
            raise ModelError(f"{path}: holds no {self.content.removeprefix('a ')}: {self._other_file}")
        try:
            record = self.schema.model_validate_json(metadata[self.key])
        except ValidationError as error:
            raise ModelError(f"{path}: {first_fault(error)}: {self.remedy}") from None
        if metadata.get(_HASH, expected := sha256_of(arrays, metadata[self.key])) != expected:
            raise self.damaged(path)
        return record, arrays

    def damaged(self, path: Path, reason: str = "") -> ModelError:
        """The error for a file whose parts do not fit together."""
        return ModelError(f"{path}: damaged: {f'{reason}: ' if reason else ''}{self.remedy}")

    @property
    def _other_file(self) -> str:
        return f"name a file that `{self.made_by}` wrote"

    def _opened(self, path: Path) -> tuple[Mapping[str, str], Arrays]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                # Another program's file may be a model of gigabytes: none of it is read.
                names = [name for name in file.keys() if self.key in metadata]  # noqa: SIM118
                readable = [name for name in names if file.get_slice(name).get_dtype() in _OF_NUMPY]
                return metadata, {name: file.get_tensor(name) for name in readable}
        except (OSError, SafetensorError) as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
            raise ModelError(f"{path}: can't be read as {self.content} ({reason}): {self._other_file}") from error


def sha256_of(arrays: Arrays, text: str = "") -> str:
    """Hexadecimal SHA-256 of names, types, shapes and bytes of the arrays, by name, and of `text` before them."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    return digest.hexdigest()

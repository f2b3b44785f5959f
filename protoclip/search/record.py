"""The index folder: the contents of `index.json`, and the check of the files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protoclip.contract.errors import IndexFileError
from protoclip.contract.files import sha256_file
from protoclip.contract.manifest import Sha256

from .store import FaissType

INDEX_FILE = "index.json"
METADATA_FILE = "metadata.jsonl"
VECTORS_FILE = "vectors.faiss"
FINGERPRINT = r"^[0-9a-f]{6,64}$"


class IndexRecord(BaseModel):
    """The contents of `index.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    model: str = Field(description="name of the model that made the vectors")
    fingerprint: str = Field(pattern=FINGERPRINT, description="of that model")
    dim: int = Field(gt=0)
    count: int = Field(ge=0)
    faiss_type: FaissType = Field(description="in the words of faiss's index factory")
    vectors_sha256: Sha256
    metadata_sha256: Sha256
    artifact: str | None = Field(
        default=None,
        min_length=1,
        description="folder of the artifact that made the vectors without a server; None: a server made them",
    )

    def save(self, folder: Path) -> None:
        """Writes `index.json`; an index that a server made can be read by earlier versions."""
        text = self.model_dump_json(indent=2, exclude_none=True)
        (folder / INDEX_FILE).write_text(text + "\n", encoding="utf-8")


def artifact_at(url: str) -> str | None:
    """The absolute path of the artifact's folder that a client's `url` is; None for a server's address.

    None as well for a path that can't be printed: JSON holds no bytes that aren't text.
    """
    if "://" in url or not Path(url).is_dir():
        return None
    path = str(Path(url).resolve())
    return path if path.isprintable() else None


def read_record(folder: Path) -> IndexRecord:
    """Reads `index.json`, and checks the SHA-256 of the files that it names.

    Raises:
        IndexFileError: as `load_record`, or a file is missing or changed.
    """
    record = load_record(folder)
    _check_hash(folder / VECTORS_FILE, record.vectors_sha256)
    _check_hash(folder / METADATA_FILE, record.metadata_sha256)
    return record


def load_record(folder: Path) -> IndexRecord:
    """Reads `index.json` alone.

    Raises:
        IndexFileError: there is none, or it doesn't fit this version's schema.
    """
    path = folder / INDEX_FILE
    try:
        return IndexRecord.model_validate_json(path.read_bytes())
    except OSError:
        hint = "name a folder that `protoclip index build` wrote"
        raise IndexFileError(f"{folder}: no readable {INDEX_FILE} here: {hint}") from None
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise IndexFileError(f"{path}: field {name!r}: {first['msg']}: build the index again") from None


def check_place(path: Path) -> None:
    """Checks that an index may be written at `path`: nothing, an empty folder or another index is there.

    Raises:
        IndexFileError: something else is there, which saving would overwrite.
    """
    try:
        names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    except OSError as error:
        raise IndexFileError(f"{path}: can't be read: {error.strerror}") from error
    foreign = names - {INDEX_FILE, METADATA_FILE, VECTORS_FILE}
    if foreign or (path.exists() and not path.is_dir()):
        what = f"the folder holds {min(foreign)!r}" if foreign else "it is a file"
        raise IndexFileError(f"{path} is no index ({what}), and saving would replace it: choose another place")


def _check_hash(path: Path, expected: str) -> None:
    try:
        found = sha256_file(path)
    except OSError as error:
        raise IndexFileError(f"{path}: can't be read ({error.strerror}): build the index again") from error
    if found != expected:
        raise IndexFileError(f"{path}: damaged or changed since it was written: build the index again")

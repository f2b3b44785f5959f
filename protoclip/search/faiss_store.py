"""Vectors in faiss, searched exactly."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.contract.install import install_command

from .store import Array, FaissType, Keys

EXACT: FaissType = "IDMap2,Flat"


class FaissStore:
    """Vectors by key; each query is compared with all of them: exact up to float32 rounding."""

    def __init__(self, index: Any, faiss_type: FaissType) -> None:
        self._index = index
        self.faiss_type = faiss_type

    @classmethod
    def create(cls, dim: int, faiss_type: FaissType = EXACT) -> FaissStore:
        """An empty store; `faiss_type` is a string for faiss's index factory.

        Raises:
            ConfigError: faiss isn't installed.
        """
        faiss = _faiss()
        return cls(faiss.index_factory(dim, faiss_type, faiss.METRIC_INNER_PRODUCT), faiss_type)

    @classmethod
    def load(cls, path: Path, dim: int, count: int, faiss_type: FaissType) -> FaissStore:
        """Reads what `save` wrote. faiss trusts the file: check its hash first, and open no untrusted file.

        Raises:
            IndexFileError: the file isn't such an index, or not with `count` vectors of `dim`.
            ConfigError: faiss isn't installed.
        """
        faiss = _faiss()
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise IndexFileError(f"{path}: faiss can't read it: build the index again") from error
        kind = (type(index), index.d, index.ntotal, index.metric_type)
        if kind != (faiss.IndexIDMap2, dim, count, faiss.METRIC_INNER_PRODUCT):
            raise IndexFileError(f"{path}: not an {faiss_type} of {count} vectors [{dim}]: build the index again")
        return cls(index, faiss_type)

    def add(self, keys: Keys, vectors: Array) -> None:
        self._index.add_with_ids(vectors, keys)

    def search(self, vectors: Array, k: int) -> tuple[Array, Keys]:
        scores, keys = self._index.search(vectors, k)
        return scores, keys

    def save(self, path: Path) -> None:
        faiss = _faiss()
        # Through our own stream: faiss's does not raise when the last bytes don't fit on the disk.
        with open(path, "wb") as stream:
            faiss.write_index(self._index, faiss.PyCallbackIOWriter(stream.write))


def _faiss() -> ModuleType:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"an index needs faiss, which isn't installed: {install_command('cpu')} (or [gpu])"
        ) from error
    return faiss

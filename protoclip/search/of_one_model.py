"""What every store of vectors checks and offers in the same way: its vectors are of one model. `D` embedding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from protoclip.client.errors import SeveralModels, not_served
from protoclip.client.model_vectors import vectors_model
from protoclip.client.results import Embeddings
from protoclip.client.transport import Vector
from protoclip.contract.errors import ConfigError, IndexFileError

from .conditions import Where
from .entries import Entry, Label, make_labels
from .vectors import Array, unit_rows

if TYPE_CHECKING:
    from protoclip.client import Client, ServedModel

_Place = TypeVar("_Place", Path, str)


class OfOneModel(ABC, Generic[_Place]):
    """A store whose vectors one model made.

    Attributes:
        path: its folder, or its address.
        model: name of the model.
        fingerprint: of the model; only vectors of the same model can be compared.
        dim: D.
        artifact: folder of the artifact that made the vectors in the client's own process; None: a server did.
    """

    path: _Place
    model: str
    fingerprint: str
    dim: int
    artifact: str | None
    _to_another_model = "move the index over with `protoclip index migrate`"

    @abstractmethod
    def get(self, name: str) -> Entry | None:
        """The entry with this id; None if there is none."""

    @abstractmethod
    def count(self, where: Where | None = None) -> int:
        """The number of entries; with `where`, of those that fit."""

    @abstractmethod
    def close(self) -> None:
        """Gives back what it holds; every other call fails then. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.count()

    def vector(self, name: str) -> Vector:
        """The vector `[D]` of an entry, to search by.

        Raises:
            ConfigError: no entry has this id.
        """
        entry = self.get(name)
        if entry is None:
            raise ConfigError(f"{self.path}: no entry has the id {name!r}")
        return entry.vector

    def check_model(self, model: ServedModel) -> None:
        """Checks that vectors of `model` can be compared with those of this index.

        Raises:
            IndexFileError: it is another model.
        """
        if model.fingerprint != self.fingerprint:
            self._check_other_model(model.fingerprint)
            raise IndexFileError(
                f"{self.path}: made with {self._made_with()}, but the client uses {model.name} {model.fingerprint}"
                f": ask a server that has the index's model, or {self._to_another_model}"
            )

    def check_served(self, client: Client) -> None:
        """Checks that the client's server has the model of this index.

        Raises:
            IndexFileError: it doesn't. And what the client raises where it gets no answer.
        """
        try:
            model = client.model_with(self.fingerprint) or client.model
        except SeveralModels as error:
            raise not_served(self, self.fingerprint, client.url) from error
        self.check_model(model)

    def _of_this_model(self, vectors: ArrayLike | Embeddings) -> ArrayLike:
        fingerprint = vectors_model(vectors)
        if fingerprint and fingerprint != self.fingerprint:
            self._check_other_model(fingerprint)
            raise IndexFileError(
                f"{self.path}: made with {self._made_with()}, but these vectors with {fingerprint}: embed them "
                f"with the index's model, or {self._to_another_model}"
            )
        return vectors.vectors if isinstance(vectors, Embeddings) else vectors

    def _check_other_model(self, fingerprint: str) -> None:
        """Raises IndexFileError where more is known of why vectors of this model are refused."""

    def _made_with(self) -> str:
        return f"{self.model or 'the model'} {self.fingerprint}"

    def _checked(
        self, vectors: ArrayLike | Embeddings, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]] | None
    ) -> tuple[Array, list[Label]]:
        array = self._of_this_model(vectors)
        rows = unit_rows(array, self.dim) if np.size(array) else np.zeros((0, self.dim), np.float32)
        return rows, make_labels(ids, metadata, len(rows))

    def _queries(self, array: ArrayLike) -> Array:
        """What is searched by, `[D]` or `[Q, D]`, as unit rows; no row at all is none."""
        if np.size(array) or np.ndim(array) != 2:
            return unit_rows(array, self.dim)
        return np.zeros((0, self.dim), np.float32)

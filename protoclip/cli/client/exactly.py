"""An index of which every search compares with every vector, for `Client.search`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protoclip.client import Hit
from protoclip.client.transport import Matrix, Vector
from protoclip.search import Store

if TYPE_CHECKING:
    from protoclip.client import ServedModel


class Exactly:
    """What `Client.search` needs of `index`, whose `search` takes `exact=`, as of every store here."""

    def __init__(self, index: Store) -> None:
        self._index: Any = index
        self.path, self.fingerprint = index.path, index.fingerprint

    def check_model(self, model: ServedModel) -> None:
        """As the index."""
        self._index.check_model(model)

    def vector(self, name: str) -> Vector:
        """As the index."""
        found: Vector = self._index.vector(name)
        return found

    def search(self, vectors: Matrix, k: int, **options: Any) -> list[list[Hit]]:
        """As the index, exactly."""
        found: list[list[Hit]] = self._index.search(vectors, k, exact=True, **options)
        return found

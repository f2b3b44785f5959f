"""Vectors of what people ask for. `D` embedding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Unpack

import numpy as np

from protoclip.client import AsyncClient, Hit, ServedModel
from protoclip.client.transport import Matrix, Vector
from protoclip.client.wanted import IndexOptions
from protoclip.contract.errors import ItemError
from protoclip.search import Store
from serving.gateway.errors import invalid, not_found

from .asked import Asked
from .given import GivenPictures

UNLIKE_WEIGHT = 0.5
"""With 1, an example that is as near as the query itself would leave no direction to look in."""
_LEAST_NORM = 1e-6


async def text_vector(client: AsyncClient, index: Store, text: str) -> Vector:
    """The vector `[D]` of a text by the index model; Refused (400) where it has none, or as `Client.search`."""
    taking = _Taking(index)
    with _item_errors():
        await client.search(taking, text=text, k=1)
    return taking.vector_taken()


async def image_vector(client: AsyncClient, index: Store, data: bytes) -> Vector:
    """The vector `[D]` of a picture file by the index's model; errors as `text_vector`."""
    taking = _Taking(index)
    with _item_errors():
        await client.search(taking, image=data, k=1)
    return taking.vector_taken()


async def model_of(client: AsyncClient, index: Store) -> ServedModel | None:
    """The served model that made the index's vectors; None where there is none. Errors as `Client.model_with`."""
    return await client.model_with(index.fingerprint)


def entry_vector(index: Store, name: str) -> Vector:
    """The vector `[D]` of an entry; raises Refused (404) where there is none."""
    entry = index.get(name)
    if entry is None:
        raise not_found("entry_not_found", f"no entry of this index is called {name[:100]!r}: remove the example")
    return entry.vector


def picture_vector(index: Store, given: GivenPictures, word: str) -> Vector:
    """The vector `[D]` of a picture that was given before.

    Raises:
        Refused: 410, it is not kept any more; 400, another index's model made it.
    """
    picture = given.get(word)
    if picture.fingerprint != index.fingerprint:
        raise invalid("the picture was given for an index of another model: give it again for this one")
    return picture.vector


async def query_vector(client: AsyncClient, index: Store, given: GivenPictures, asked: Asked) -> Vector:
    """The sum `[D]` of what is asked for, less half of what is not wanted; one part alone is as it is.

    Raises:
        Refused: as the parts, and 400 where they cancel out.
        ServerError: as the client.
    """
    parts = [await text_vector(client, index, asked.text)] if asked.text else []
    if asked.picture:
        parts.append(picture_vector(index, given, asked.picture))
    parts += [entry_vector(index, name) for name in asked.like]
    if len(parts) == 1 and not asked.unlike:
        return parts[0]
    total = np.sum(np.asarray(parts, dtype=np.float64), axis=0)
    for name in asked.unlike:
        total = total - UNLIKE_WEIGHT * entry_vector(index, name).astype(np.float64)
    if np.linalg.norm(total) < _LEAST_NORM:
        raise invalid("the examples cancel each other out: remove one")
    return np.asarray(total, dtype=np.float32)


@contextmanager
def _item_errors() -> Iterator[None]:
    """The reason alone: there is one item, and its position says nothing."""
    try:
        yield
    except ItemError as error:
        raise invalid(error.reason) from error


class _Taking:
    """Stands for an index in `Client.search`, and takes the query's vector instead of looking for neighbours."""

    def __init__(self, index: Store) -> None:
        self._index = index
        self._taken: Vector | None = None

    @property
    def fingerprint(self) -> str:
        return self._index.fingerprint

    def check_model(self, model: ServedModel) -> None:
        self._index.check_model(model)

    def vector(self, name: str) -> Vector:
        return entry_vector(self._index, name)

    def search(
        self, vectors: Matrix, k: int, *, without: Sequence[str], **options: Unpack[IndexOptions]
    ) -> list[list[Hit]]:
        self._taken = np.asarray(vectors[0], dtype=np.float32)
        return [[]]

    def vector_taken(self) -> Vector:
        assert self._taken is not None
        return self._taken

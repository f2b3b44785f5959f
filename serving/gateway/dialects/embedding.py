"""Texts and pictures of one request, embedded at once, by one model. `n` items of a kind, `D` embedding."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protoclip.client import AsyncClient, Embeddings, ServedModel
from serving.gateway.errors import Refused

_TRIES = 3


@dataclass(frozen=True)
class Embedded:
    """The vectors of both kinds, `[n, D]` each, with the errors of single items; `[0, D]` for none of a kind."""

    model: ServedModel
    texts: Embeddings
    pictures: Embeddings


async def embed_both(
    client: AsyncClient,
    texts: Sequence[str],
    pictures: Sequence[bytes],
    check: Callable[[ServedModel], None] = lambda model: None,
) -> Embedded:
    """Embeds all items by the model that `client` means now.

    Args:
        check: raises where that model can't answer the request.

    Raises:
        Refused: 503 where the model changed again and again meanwhile.
        ServerError: as `AsyncClient`; where one kind fails, the other is given up.
    """
    for _ in range(_TRIES):
        model = await client.model
        check(model)
        found = await _ask(client, texts, pictures)
        # An alias may move between two calls, and vectors of two models can't be compared.
        if all(part.fingerprint == model.fingerprint for part in found if part is not None):
            nothing = Embeddings(np.zeros((0, model.embedding_dim), dtype=np.float32))
            of_texts, of_pictures = (nothing if part is None else part for part in found)
            return Embedded(model, of_texts, of_pictures)
    raise Refused(503, "unavailable", "the model is being changed: come again", retry_after_s=2)


async def _ask(
    client: AsyncClient, texts: Sequence[str], pictures: Sequence[bytes]
) -> tuple[Embeddings | None, Embeddings | None]:
    if texts and pictures:
        of_texts, of_pictures = await _together(
            client.embed_texts(texts, "return"), client.embed_images(pictures, "return")
        )
        return of_texts, of_pictures
    return (
        await client.embed_texts(texts, "return") if texts else None,
        await client.embed_images(pictures, "return") if pictures else None,
    )


async def _together(*calls: Coroutine[Any, Any, Embeddings]) -> list[Embeddings]:
    """What all calls give; where one fails, the others are cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]

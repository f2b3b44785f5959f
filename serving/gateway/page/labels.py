"""Labels that somebody typed, compared with the one picture that the page's search is of. `D` embedding."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np

from protoclip.client import AsyncClient, ServedModel
from protoclip.client.classification import Choice, classifications
from protoclip.client.transport import Vector
from protoclip.search import Store
from serving.gateway.errors import Refused, invalid

from .asked import Asked
from .given import GivenPictures
from .vectors import entry_vector, picture_vector

MAX_LABELS = 100
TEMPLATES_SAID = (("plain", "as they are"), ("photo", "as photos"), ("icon", "as drawings"))
"""Sets of templates, and what the page calls them."""


@dataclass(frozen=True)
class Bar:
    """A label with its probability, in [0, 1], and its cosine."""

    label: str
    probability: float
    cosine: float


async def bars_of(client: AsyncClient, index: Store, given: GivenPictures, asked: Asked) -> tuple[Bar, ...]:
    """A bar for each label of `asked`, the best first; there is at least one label, and one picture.

    Raises:
        Refused: 400 for too many labels, one alone, or unknown templates; 409 where the current model is not the
            index's; 404 and 410 for a picture that is gone.
        ServerError: as the client.
    """
    labels = asked.label_list
    _check(labels, asked.templates)
    model: ServedModel = await client.model
    if model.fingerprint != index.fingerprint:
        message = "labels are compared by the current model, and the index has another one"
        raise Refused(409, "other_model", message)
    if len(labels) == 1 and model.probabilities == "softmax":
        raise invalid("one label alone fits every picture: give another one to compare it with")
    vector = await _picture(index, given, asked)
    bank = await client.class_bank(labels, asked.templates)
    rows = np.asarray(vector, np.float32)[np.newaxis]
    (answer,) = await asyncio.to_thread(classifications, rows, bank, model, Choice())
    bars = [Bar(label, score, answer.cosines[label]) for label, score in answer.scores.items()]
    return tuple(sorted(bars, key=lambda bar: -bar.cosine))


def _check(labels: tuple[str, ...], templates: str) -> None:
    if len(labels) > MAX_LABELS:
        raise invalid(f"{len(labels)} labels are more than {MAX_LABELS}: compare fewer")
    known = [name for name, _ in TEMPLATES_SAID]
    if templates not in known:
        raise invalid(f"no templates are called {templates[:40]!r}: there are {', '.join(known)}")


async def _picture(index: Store, given: GivenPictures, asked: Asked) -> Vector:
    """The vector `[D]` of the picture that was given, or of the only example."""
    if asked.picture:
        return picture_vector(index, given, asked.picture)
    return await asyncio.to_thread(entry_vector, index, asked.like[0])

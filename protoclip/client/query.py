"""What a search asks for: a text, a picture and entries of the index, each with its weight, as one vector.

`D` embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from protoclip.contract.errors import ConfigError

from .inputs import ImageItem, image_items, text_items
from .transport import Array

Weighted: TypeAlias = str | Mapping[str, float]
MAX_WEIGHT = 1e6
"""Beyond, the other parts of the sum are lost in its rounding, and further on the sum itself."""


@dataclass(frozen=True)
class Query:
    """Weights by text and by id; the picture's is 1. What is to be subtracted has a negative one."""

    texts: Mapping[str, float]
    image: ImageItem | None
    ids: Mapping[str, float]

    @property
    def kind(self) -> Literal["text", "image"]:
        """What it is of: a text, where one is in it; a picture or entries, which are like pictures, otherwise."""
        return "text" if self.texts else "image"

    def vector(
        self,
        embed_texts: Callable[[list[str]], Array],
        embed_image: Callable[[Any], Array],
        entry: Callable[[str], Array],
    ) -> Array:
        """The weighted sum `[D]` of unit vectors; what is subtracted from itself leaves no direction.

        Raises:
            ConfigError: the parts cancel out. And what the three functions raise.
        """
        parts: list[tuple[float, Array]] = []
        if self.texts:
            vectors = embed_texts(list(self.texts))
            parts += [(weight, row) for weight, row in zip(self.texts.values(), vectors, strict=True)]
        if self.image is not None:
            parts.append((1.0, embed_image(image_items(self.image)[0])[0]))
        parts += [(weight, entry(name)) for name, weight in self.ids.items()]
        if len(parts) == 1 and parts[0][0] > 0:
            return np.asarray(parts[0][1])
        total = sum(weight * np.asarray(part, dtype=np.float64) for weight, part in parts)
        if np.linalg.norm(total) < 1e-6:
            raise ConfigError("search: the parts of the query cancel out: change a weight")
        return np.asarray(total, dtype=np.float32)


def make_query(
    text: Weighted | None, image: ImageItem | None, like: Weighted | None, minus: Weighted | None
) -> Query:
    """The arguments of `Client.search`, checked.

    Raises:
        ConfigError: nothing to look for, several pictures, or a weight that is none or beyond MAX_WEIGHT.
    """
    if text is None and image is None and like is None:
        raise ConfigError("search needs something to look for: text=, image= or like=")
    if image is not None and not image_items(image)[1]:
        raise ConfigError("image= takes one item: for several use embed_images and Index.search")
    texts = _weights("text", text)
    for name, weight in _weights("minus", minus).items():
        if name in texts:
            raise ConfigError(f"minus={name!r} is what text= asks for: leave one out")
        texts[name] = -weight
    return Query(texts, image, _weights("like", like))


def _weights(name: str, wanted: Weighted | None) -> dict[str, float]:
    if wanted is None:
        return {}
    if not isinstance(wanted, Mapping):
        if name != "like" and not text_items(wanted)[1]:
            raise ConfigError(f"{name}= takes one text, or a mapping from texts to weights")
        if not isinstance(wanted, str):
            raise ConfigError(f"{name}={wanted!r} is no text")
        wanted = {wanted: 1.0}
    found: dict[str, float] = {}
    for key, weight in wanted.items():
        if not isinstance(key, str):
            raise ConfigError(f"{name}={key!r} is no text")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= MAX_WEIGHT:
            raise ConfigError(
                f"{name}: the weight of {key!r} is {weight!r:.40}: it must be a number above 0 "
                f"and at most {MAX_WEIGHT:g}"
            )
        found[key] = float(weight)
    if not found:
        raise ConfigError(f"{name}= is empty: leave it out")
    return found

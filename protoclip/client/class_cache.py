"""A cache of class vectors for the last few zero-shot calls."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from protoclip.contract.errors import ConfigError
from protoclip.contract.zero_shot import class_vectors, fill_templates

from .results import Embeddings
from .transport import Array

_NUM_KEPT = 16


class ClassCache:
    """Class vectors by labels and templates; the least recently used are evicted."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[tuple[str, ...], ...], Array] = OrderedDict()
        self._lock = threading.Lock()

    def vectors(
        self, labels: Sequence[str], templates: str | Sequence[str], embed: Callable[[list[str]], Embeddings]
    ) -> Array:
        """Class vectors `[C, D]`, by `embed` where they aren't cached.

        Args:
            labels: of `class_labels`.

        Raises:
            ConfigError: no labels, one that can't be encoded, or invalid templates.
        """
        texts = fill_templates(labels, templates)
        key = tuple(tuple(row) for row in texts)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        vectors = _embed_classes(labels, texts, embed)
        with self._lock:
            self._kept[key] = vectors
            if len(self._kept) > _NUM_KEPT:
                self._kept.popitem(last=False)
        return vectors


def _embed_classes(
    labels: Sequence[str], texts: list[list[str]], embed: Callable[[list[str]], Embeddings]
) -> Array:
    flat = [(owner, text) for owner, row in enumerate(texts) for text in row]
    answer = embed([text for _, text in flat])
    if answer.errors:
        owner = flat[answer.errors[0].position][0]
        raise ConfigError(f"label {labels[owner]!r} can't be encoded: {answer.errors[0].reason}")
    owners = np.array([owner for owner, _ in flat], dtype=np.int64)
    return class_vectors(answer.vectors, owners, len(labels))

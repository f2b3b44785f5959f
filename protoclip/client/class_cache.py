"""A cache of the classes of the last few zero-shot calls. `C` classes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

from protoclip.contract.zero_shot import find_templates

from .class_bank import ClassBank, embed_classes
from .discovery import ServedModel
from .inputs import check_labels, label_items
from .results import Embeddings

_NUM_KEPT = 16
_MOST_CHARACTERS = 8 << 20
"""Of labels and templates that are kept: those of a service's clients may be as long as its requests."""
_Key: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]


class ClassCache:
    """Classes by labels and templates of up to eight million characters; the least recently used are evicted."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, ClassBank] = OrderedDict()
        self._lock = threading.Lock()

    def classes(
        self,
        labels: Iterable[str],
        templates: str | Sequence[str],
        model: Callable[[], ServedModel],
        stream: Callable[[ServedModel, Iterable[str]], Iterator[Embeddings]],
    ) -> tuple[ClassBank, ServedModel]:
        """The classes, embedded by `stream` where they aren't cached, and the model that did so.

        Cached ones cost a hash and a comparison of each label, and neither their checks nor their texts.

        Raises:
            ConfigError: labels that `label_items` or `check_labels` refuses, one that can't be encoded, or invalid
                templates.
        """
        key = (label_items(labels), find_templates(templates))
        found = self._find(key)
        if found is None:
            check_labels(key[0])
        served = model()
        # The client may have followed an alias since.
        if found is None or found.model != served.prefix:
            found = embed_classes(*key, served, partial(stream, served))
            self._keep(key, found)
        return found, served

    def _find(self, key: _Key) -> ClassBank | None:
        try:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                return self._kept.get(key)
        except TypeError:
            # What can't be hashed is no label, and `check_labels` says so.
            return None

    def _keep(self, key: _Key, classes: ClassBank) -> None:
        if sum(len(text) for texts in key for text in texts) > _MOST_CHARACTERS:
            return
        with self._lock:
            self._kept[key] = classes
            if len(self._kept) > _NUM_KEPT:
                self._kept.popitem(last=False)

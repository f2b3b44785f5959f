"""The models of a comparison, and their embeddings of the pictures and texts that all are measured on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from protoclip.contract.errors import ConfigError
from protoclip.sources import Pairs

from .compared_probes import check_probes
from .features import ImageFeatures, MeasuredModel, embed_texts, extract_images
from .item_scores import Asked, readable_in_all
from .kept_features import KeptFeatures


@dataclass(frozen=True)
class Arm:
    """What is compared: one model, or runs of the same settings with several seeds, in the seeds' order.

    Attributes:
        name: what tables call it.
        sources: names of its models.
        models: loaded when it is measured, and dropped after it.
        features: for each model the folder that keeps its embeddings of pictures, None for none; empty: none at
            all.
    """

    name: str
    sources: tuple[str, ...]
    models: tuple[Callable[[], MeasuredModel], ...]
    features: tuple[Path | None, ...] = ()


@dataclass(frozen=True)
class EmbeddedArms:
    """What `measure_arms` needs.

    Attributes:
        arms: as they were given.
        asked: the table, with the pictures that some model can't read.
        embedded: the models' embeddings, by arm.
        train: training pairs for probes; None: no probes.
        group_column: of both.
    """

    arms: Sequence[Arm]
    asked: Asked
    embedded: Sequence[Sequence[Embedded]]
    train: Pairs | None
    group_column: str | None

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the table that every model could read, ascending."""
        return readable_in_all([one.images for own in self.embedded for one in own], len(self.asked.pairs))

    @property
    def train_rows(self) -> NDArray[np.int64]:
        """The same of the training pairs."""
        assert self.train is not None
        found = [one.train for own in self.embedded for one in own if one.train is not None]
        return readable_in_all(found, len(self.train))


class Embedded:
    """One model's embeddings of the pictures and of all texts that are asked for; the model itself isn't kept.

    Attributes:
        images: of the table.
        train: of the training pairs; None without them.
    """

    def __init__(
        self,
        load: Callable[[], MeasuredModel],
        features: Path | None,
        asked: Asked,
        train: Pairs | None,
        batch_size: int,
        tell: Callable[[int], None],
    ) -> None:
        model = load()
        extract = extract_images if features is None else KeptFeatures(features).extract
        self.images: ImageFeatures = extract(model, asked.pairs, batch_size=batch_size, on_batch=tell)
        self.train = None if train is None else extract(model, train, batch_size=batch_size, on_batch=tell)
        self._load, self._batch_size = load, batch_size
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self._add(model, asked.texts())

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """`[len(texts), D]`. A label text is new where the picture that gave it before couldn't be read."""
        new = [text for text in texts if text not in self._vectors]
        if new:
            self._add(self._load(), new)
        return np.stack([self._vectors[text] for text in texts])

    def _add(self, model: MeasuredModel, texts: Sequence[str]) -> None:
        different = list(dict.fromkeys(texts))
        self._vectors |= zip(different, embed_texts(model, different, batch_size=self._batch_size), strict=True)


def embed_arms(
    arms: Sequence[Arm],
    pairs: Pairs,
    *,
    group_column: str | None,
    class_columns: Sequence[str] = (),
    templates: str = "plain",
    train: Pairs | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> EmbeddedArms:
    """Embeds the table, and the training pairs where there are any, with every model; arguments and errors are
    those of `compare_arms`.

    On the ranks of a launcher each embeds its share of the pictures, and all have the result.
    """
    check_arms(arms)
    check_probes(train, class_columns)
    asked = Asked.of(pairs, group_column, class_columns, templates)
    bars = progress if progress is not None else Progress(disable=True)
    count = len(pairs) + (0 if train is None else len(train))
    task = bars.add_task("embedding pictures", total=count * sum(len(arm.models) for arm in arms))

    def embedded(load: Callable[[], MeasuredModel], features: Path | None) -> Embedded:
        return Embedded(load, features, asked, train, batch_size, lambda count: bars.advance(task, count))

    found = [
        [embedded(*model) for model in zip(arm.models, arm.features or (None,) * len(arm.models), strict=True)]
        for arm in arms
    ]
    return EmbeddedArms(arms, asked, found, train, group_column)


def check_arms(arms: Sequence[Arm]) -> None:
    """Raises ConfigError where arms can't be compared; see `compare_arms`."""
    if len(arms) < 2:
        raise ConfigError("name two models or more: protoclip compare runs/plain runs/proto")
    names = [arm.name for arm in arms]
    if len(set(names)) < len(names):
        raise ConfigError(f"two arms are called {max(names, key=names.count)!r}: name them, NAME=runs/a")
    counts = [len(arm.models) for arm in arms]
    if len(set(counts)) > 1:
        told = ", ".join(f"{arm.name} {count}" for arm, count in zip(arms, counts, strict=True))
        raise ConfigError(f"runs are paired by seed, and the arms have {told}: give as many of each, in one order")

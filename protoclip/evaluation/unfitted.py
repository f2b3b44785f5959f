"""Measures a model on one table without fitting anything: retrieval, zero-shot classification, geometry."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from protoclip.sources import Pairs

from .classify import Classes, class_names, template_texts, vectors_of
from .features import MeasuredModel, embed_texts, extract_images
from .measure import Part, logits_of, measure_subset
from .runner import MAX_REASONS
from .scores import Evaluation
from .subsets import Captions, Labels, label_texts

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def evaluate_unfitted(
    model: MeasuredModel,
    name: str,
    pairs: Pairs,
    *,
    labels: Callable[[Pairs], Labels],
    classes: Callable[[Embed], Sequence[Classes]],
    captions: Captions,
    batch_size: int = 256,
    seed: int = 0,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """One subset, called `name`; there are no probes. On several ranks each embeds its share.

    Args:
        labels: label texts and groups of the pictures that could be read.
        classes: the class columns, from what embeds texts.

    Raises:
        DataError: no picture can be read, or a text can't be used.
        ModelError: embeddings that are not finite.
    """
    started = time.perf_counter()
    found = extract_images(model, pairs, batch_size=batch_size, on_batch=on_batch)
    good = pairs if len(found.rows) == len(pairs) else pairs.select(found.rows)
    part = Part(good, found.vectors, labels(good), tuple(reason for _, reason in found.skipped))

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        return embed_texts(model, texts, batch_size=batch_size)

    measured = measure_subset(part, True, classes(embed), embed, seed, captions, logits_of(model))
    return Evaluation(
        source=model.source,
        model_name=model.model_name,
        embedding_dim=model.embedding_dim,
        num_train=0,
        subsets={name: measured},
        probes={},
        skipped=part.skipped[:MAX_REASONS],
        seconds=time.perf_counter() - started,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={name: version(name) for name in ("protoclip", "torch", "open_clip_torch", "numpy")},
    )


def evaluate_model(
    model: MeasuredModel,
    name: str,
    pairs: Pairs,
    *,
    group_column: str | None = None,
    class_columns: Sequence[str] = (),
    templates: Sequence[str] = ("plain",),
    captions: Captions = "label",
    batch_size: int = 256,
    seed: int = 0,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """A model that belongs to no run, such as an artifact or published weights, on any table.

    Args:
        name: the subset's.
        group_column: rows with the same value show the same thing; None: rows with the same label text.
        class_columns: classified by their values' names in the `templates`.

    Raises:
        ConfigError: an unknown set of templates.
        DataError, ModelError: as `evaluate_unfitted`, or a column is missing.
    """
    named = {column: class_names([pairs], column) for column in class_columns}

    def classes(embed: Embed) -> list[Classes]:
        found = []
        for column, names in named.items():
            texts = {templates_of: template_texts(names, templates_of) for templates_of in templates}
            vectors = {way: vectors_of(own, embed(own.texts), len(names)) for way, own in texts.items()}
            found.append(Classes(column, names, vectors))
        return found

    return evaluate_unfitted(
        model,
        name,
        pairs,
        labels=lambda good: label_texts(good, group_column),
        classes=classes,
        captions=captions,
        batch_size=batch_size,
        seed=seed,
        on_batch=on_batch,
    )

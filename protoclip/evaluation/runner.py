"""Measures a model on the subsets of a data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from protoclip.contract.errors import DataError
from protoclip.distributed import collectives
from protoclip.sources import Pairs

from .classify import (
    MEMBERS,
    Classes,
    ClassTexts,
    class_names,
    class_numbers,
    fit_probes,
    member_texts,
    template_texts,
    vectors_of,
)
from .features import MeasuredModel, embed_texts, extract_images
from .few_shot import fit_shots
from .kept_features import KeptFeatures
from .measure import Part, logits_of, measure_subset, texts_of
from .scores import Evaluation, ProbeChoice
from .subsets import Captions, CaptionTexts, label_texts

Vectors = NDArray[np.float32]

MAX_REASONS = 20


def evaluate(
    model: MeasuredModel,
    train: Pairs,
    subsets: Mapping[str, Pairs],
    *,
    group_column: str | None,
    class_columns: Sequence[str],
    templates: Sequence[str] = ("plain", "icon"),
    batch_size: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
    captions: Captions = "label",
    kept: KeptFeatures | None = None,
    few_shot: Sequence[int] = (),
) -> Evaluation:
    """Measures retrieval, zero-shot classification, probes and geometry in every subset.

    Probes and the zero-shot variant `members` are made from `train` only. A subset that *is* `train` gets no
    probe scores. Pictures that can't be read are left out, counted and named.

    On several ranks each embeds its share of the pictures, the first measures, and all return what it found.

    Args:
        model: the model.
        train: the training pairs.
        subsets: the parts to measure.
        group_column: rows with the same value show the same thing; None: rows with the same label text.
        class_columns: columns to classify by.
        templates: names of sets of zero-shot templates.
        batch_size: pictures and texts at a time.
        seed: of the held-out groups and of the intervals.
        progress: called with the progress.
        captions: which texts retrieval is among: the label text of each group, or all texts of all pictures.
        kept: where embeddings of an earlier evaluation lie, and those of this one are put; None: nowhere.

        few_shot: numbers of training pictures of each class, for linear probes on so few.

    Raises:
        ConfigError: an unknown set of templates.
        DataError: a column is missing, a subset is empty or unreadable, or probes can't be fitted.
        ModelError: embeddings that are not finite.
    """
    started = time.perf_counter()
    train_part, parts = _extract(model, train, subsets, group_column, batch_size, progress, kept)

    def measured() -> Evaluation:
        texts = [texts_of(part, captions) for part in parts.values()] if captions == "all" else []
        embed = _text_embedder(model, [train_part, *parts.values()], texts, batch_size)
        tables = [train, *subsets.values()]
        classes = [
            _with_few_shot(
                _classes(train_part, tables, c, group_column, templates, embed, seed), train_part, few_shot, seed
            )
            for c in class_columns
        ]
        skipped = {reason for part in [train_part, *parts.values()] for reason in part.skipped}
        skipped |= {f"{found.name}: {found.reason}" for pairs in tables for found in pairs.left_out}
        return Evaluation(
            source=model.source,
            model_name=model.model_name,
            embedding_dim=model.embedding_dim,
            num_train=len(train_part.pairs),
            subsets={
                name: measure_subset(part, part is train_part, classes, embed, seed, captions, logits_of(model))
                for name, part in parts.items()
            },
            probes={c.column: _choice(c) for c in classes},
            skipped=tuple(sorted(skipped)[:MAX_REASONS]),
            seconds=time.perf_counter() - started,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            versions={name: version(name) for name in ("protoclip", "torch", "open_clip_torch", "numpy")},
        )

    return _of_first(collectives.on_first(measured))


def _of_first(found: Evaluation | None) -> Evaluation:
    """The first rank's, on every rank; a share's decimal digits give the same number back."""
    if collectives.world_size() == 1 and found is not None:
        return found
    return Evaluation.model_validate_json(collectives.gather_texts(found.to_json() if found else " ")[0])


def _extract(
    model: MeasuredModel,
    train: Pairs,
    subsets: Mapping[str, Pairs],
    group_column: str | None,
    batch_size: int,
    progress: Progress | None,
    kept: KeptFeatures | None,
) -> tuple[Part, dict[str, Part]]:
    named = [("training pairs", train), *subsets.items()]
    tables = {id(pairs): (name, pairs) for name, pairs in named}
    progress = progress if progress is not None else Progress(disable=True)
    task = progress.add_task("embedding pictures", total=sum(len(pairs) for _, pairs in tables.values()))

    embedded = extract_images if kept is None else kept.extract

    def extract(name: str, pairs: Pairs) -> Part:
        try:
            found = embedded(model, pairs, batch_size=batch_size, on_batch=lambda n: progress.advance(task, n))
        except DataError as error:
            raise DataError(f"subset {name!r}: {error}") from error
        good = pairs if len(found.rows) == len(pairs) else pairs.select(found.rows)
        reasons = tuple(f"{name}: {reason}" for _, reason in found.skipped)
        return Part(good, found.vectors, label_texts(good, group_column), reasons)

    done = {key: extract(name, pairs) for key, (name, pairs) in tables.items()}
    return done[id(train)], {name: done[id(pairs)] for name, pairs in subsets.items()}


def _text_embedder(
    model: MeasuredModel, parts: Sequence[Part], more: Sequence[CaptionTexts], batch_size: int
) -> Callable[[Sequence[str]], Vectors]:
    """Embeds texts, the label texts of all parts and `more` only once."""
    all_texts = [*(part.labels.texts for part in parts), *(found.texts for found in more)]
    known = list(dict.fromkeys(text for texts in all_texts for text in texts))
    vectors = dict(zip(known, embed_texts(model, known, batch_size=batch_size), strict=True))

    def embed(texts: Sequence[str]) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if text not in vectors]
        vectors.update(zip(new, embed_texts(model, new, batch_size=batch_size), strict=True))
        return np.stack([vectors[text] for text in texts])

    return embed


def _classes(
    train: Part,
    tables: Sequence[Pairs],
    column: str,
    group_column: str | None,
    templates: Sequence[str],
    embed: Callable[[Sequence[str]], Vectors],
    seed: int,
) -> Classes:
    names = class_names(tables, column)
    numbers = class_numbers(train.pairs, column, names)
    ways: dict[str, ClassTexts] = {name: template_texts(names, name) for name in templates}
    ways[MEMBERS] = member_texts(train.pairs, numbers, group_column)
    linear, neighbours = fit_probes(train.image_vectors, numbers, train.labels.groups, column, len(names), seed)
    vectors = {way: vectors_of(texts, embed(texts.texts), len(names)) for way, texts in ways.items()}
    return Classes(column, names, vectors, linear, neighbours)


def _with_few_shot(classes: Classes, train: Part, shots: Sequence[int], seed: int) -> Classes:
    numbers = class_numbers(train.pairs, classes.column, classes.names)
    known = numbers >= 0
    features, labels = train.image_vectors[known], numbers[known]
    found = {count: fit_shots(features, labels, len(classes.names), count, seed=seed) for count in shots}
    return replace(classes, few_shot=found)


def _choice(classes: Classes) -> ProbeChoice:
    assert classes.linear is not None
    assert classes.neighbours is not None
    return ProbeChoice(
        decay=classes.linear.decay,
        linear_validation=classes.linear.validation_accuracy,
        k=classes.neighbours.k,
        neighbours_validation=classes.neighbours.validation_accuracy,
    )

"""A part of a run's data, embedded by the run's model: what the page shows, and measures where nobody has."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
import torch
from rich.progress import Progress

from protoclip.config.schema import RunConfig
from protoclip.evaluation.features import CPU, TorchModel, embed_texts, extract_images
from protoclip.evaluation.kept_features import FEATURES_FOLDER, KeptFeatures
from protoclip.evaluation.measure import Part, measure_subset
from protoclip.evaluation.run import run_subsets
from protoclip.evaluation.scores import Evaluation
from protoclip.evaluation.subsets import label_texts
from protoclip.runs.model import load_model
from protoclip.runs.places import Weights
from protoclip.runs.rows import rows_at_first
from protoclip.sources import Pairs

from .embedded import Embedded, Vectors


@dataclass(frozen=True)
class Sample:
    """Evenly spaced rows of the first subset that was not trained on, or of the training pairs.

    Attributes:
        subset: its name.
        trained_on: it is of the training pairs.
        size: rows of the whole subset.
        embedded: those rows whose pictures could be read.
        model_name: the model's architecture.
        source: the weights, as evaluations name them.
        train: all training pairs, in their order.
    """

    subset: str
    trained_on: bool
    size: int
    embedded: Embedded
    model_name: str
    source: str
    train: Pairs


def embed_sample(
    weights: Weights,
    config: RunConfig,
    num_pictures: int,
    *,
    device: torch.device = CPU,
    keep_features: bool = True,
    progress: Progress | None = None,
) -> Sample:
    """Reads the run's data and embeds up to `num_pictures` pictures with their label texts.

    Raises:
        ConfigError: the configured subsets don't fit the data.
        DataError: the data can't be read or has changed, or none of the pictures can be read.
        ModelError: the weights can't be loaded, or give embeddings that are not finite.
    """
    train, subsets = run_subsets(config, first=rows_at_first(weights.run))
    name, chosen = next(
        ((name, pairs) for name, pairs in subsets.items() if pairs is not train), (config.data.train_split, train)
    )
    rows = np.linspace(0, len(chosen) - 1, min(num_pictures, len(chosen))).round().astype(np.int64)
    model = TorchModel(load_model(weights.folder if weights.step is not None else weights.run), device)
    embedded = _embed(model, chosen.select(rows), weights, config, keep_features, progress)
    return Sample(name, chosen is train, len(chosen), embedded, model.model_name, model.source, train)


def _embed(
    model: TorchModel,
    pairs: Pairs,
    weights: Weights,
    config: RunConfig,
    keep_features: bool,
    progress: Progress | None,
) -> Embedded:
    bars = progress if progress is not None else Progress(disable=True)
    task = bars.add_task("embedding pictures for the report", total=len(pairs))
    embed = KeptFeatures(weights.run / FEATURES_FOLDER).extract if keep_features else extract_images
    size = config.evaluation.batch_size
    found = embed(model, pairs, batch_size=size, on_batch=lambda count: bars.advance(task, count))
    good = pairs.select(found.rows)
    labels = label_texts(good, config.data.group_column)
    return Embedded(good, found.vectors, labels, embed_texts(model, labels.texts, batch_size=size))


def measure_sample(sample: Sample, config: RunConfig) -> Evaluation:
    """Retrieval among the sample's label texts, and its geometry; no probes, which want all training pictures."""
    started = time.perf_counter()
    embedded = sample.embedded
    vectors = dict(zip(embedded.labels.texts, embedded.text_vectors, strict=True))

    def embed(texts: Sequence[str]) -> Vectors:
        return np.stack([vectors[text] for text in texts])

    part = Part(embedded.pairs, embedded.image_vectors, embedded.labels, ())
    return Evaluation(
        source=sample.source,
        model_name=sample.model_name,
        embedding_dim=embedded.image_vectors.shape[1],
        num_train=len(sample.train),
        subsets={sample.subset: measure_subset(part, True, (), embed, config.train.seed)},
        probes={},
        seconds=time.perf_counter() - started,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={name: version(name) for name in ("protoclip", "torch", "open_clip_torch", "numpy")},
    )

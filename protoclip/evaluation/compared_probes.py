"""Probes of a comparison: fitted on the same training pictures for every model, asked picture by picture.

`N` pictures of the table, `M` training pictures, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError
from protoclip.sources import Pairs

from .classify import class_names, class_numbers, fit_probes
from .item_scores import Asked, ItemScores
from .subsets import label_texts

Vectors = NDArray[np.float32]


def probe_figures(
    asked: Asked, vectors: Vectors, train: Pairs, features: Vectors, group_column: str | None
) -> dict[str, ItemScores]:
    """Linear probe and k-NN by each class column, as `protoclip evaluate` fits them.

    Args:
        vectors: a model's embeddings of the table, `[N, D]`, unit norm.
        features: of the training pictures, `[M, D]`, unit norm.
        group_column: groups of training pictures are held out whole when probes' settings are chosen.

    Raises:
        DataError: the training pairs lack a column, or can't fit a probe.
    """
    figures: dict[str, ItemScores] = {}
    for column in asked.class_columns:
        names = class_names([train, asked.pairs], column)
        groups = label_texts(train, group_column).groups
        numbers = class_numbers(train, column, names)
        linear, neighbours = fit_probes(features, numbers, groups, column, len(names), 0)
        truth = class_numbers(asked.pairs, column, names)
        known = truth >= 0
        predicted = {
            "linear probe": linear.predict(vectors[known]),
            "k-NN": neighbours.predict(vectors[known]),
        }
        for name, found in predicted.items():
            hits = (found == truth[known]).astype(np.float64)
            figures[f"{name} by {column}"] = ItemScores(hits, asked.labels.groups[known])
    return figures


def check_probes(train: Pairs | None, class_columns: Sequence[str]) -> None:
    """Raises ConfigError where probes are asked for without a class to fit them on."""
    if train is not None and not class_columns:
        raise ConfigError("--probes: no class column is known: name one with --class-column")

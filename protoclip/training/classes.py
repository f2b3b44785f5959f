"""The classes of a run's pictures, for PALM: a column's values, or the picture prototypes of a ProtoCLIP run.

`N` training pairs, `C` classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError, DataError
from protoclip.data.groups import group_numbers
from protoclip.data.training_set import TrainingSet
from protoclip.distributed import collectives
from protoclip.runs.files import PROTOTYPES_FILE, load_run_config, prototype_labels
from protoclip.sources.part import CLASS

from .rows import has_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PictureClasses:
    """Attributes:
    names: [C], in the order of their numbers.
    labels: [N], the number of each picture's class, -1 where it has none.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int64]


def picture_classes(config: RunConfig, data: TrainingSet) -> PictureClasses:
    """The classes that the configuration names.

    Pictures without a class, whose value is empty, None or NaN, are counted in a warning, and so are classes with
    one picture.

    Raises:
        ConfigError: settings that do not go with classes, no column of that name, or no class at all.
        DataError: fewer than two classes, or clusters of other data.
        ModelError: the run with the clusters can't be read.
    """
    _check_settings(config)
    if config.palm.clusters_of is not None:
        names, labels, where = _of_clusters(config, Path(config.palm.clusters_of), data)
    else:
        names, labels, where = _of_column(config, data)
    if len(names) < 2:
        only = f"{names[0]!r} is the only class" if names else "no picture has a class"
        raise DataError(f"{where}: {only}, and loss.objective='palm' keeps classes apart: give two or more")
    if collectives.is_first():
        _warn(names, labels, where)
    return PictureClasses(names, labels)


def _check_settings(config: RunConfig) -> None:
    column = config.data.class_column or CLASS
    if config.palm.clusters_of is not None and config.data.class_column is not None:
        raise ConfigError("palm.clusters_of and data.class_column both name the classes: leave one of them out")
    if config.palm.clusters_of is None and config.data.group_column == column:
        raise ConfigError(
            f"data.group_column={column}: a batch would hold each class only once: set data.group_column=none"
        )
    if config.episode.lit_episodes:
        raise ConfigError(
            f"episode.lit_episodes={config.episode.lit_episodes} trains texts, and loss.objective='palm' has "
            "none: set it to 0"
        )
    if config.teacher.path is not None:
        raise ConfigError("teacher.path has no part in loss.objective='palm': leave it out")
    if config.model.interpolate < 1:
        raise ConfigError(
            f"model.interpolate={config.model.interpolate:g} would move the model away from its prototypes, which "
            "loss.objective='palm' trains with it: set it to 1"
        )
    if config.validation.split is not None or config.validation.fraction:
        raise ConfigError(
            "validation measures the search of texts, which loss.objective='palm' does not train: leave "
            "validation.split and validation.fraction out"
        )


def _of_column(config: RunConfig, data: TrainingSet) -> tuple[tuple[str, ...], NDArray[np.int64], str]:
    column = config.data.class_column or CLASS
    try:
        values = data.pairs.column(column)
    except DataError as error:
        raise ConfigError(
            f"data.class_column: loss.objective='palm' needs the class of each picture, and {error}: name one of "
            "these, or with palm.clusters_of a ProtoCLIP run whose prototypes are the classes"
        ) from None
    texts = np.array([_text(value) for value in values], dtype=object)
    numbers = group_numbers(texts)
    labels = np.where(texts == "", -1, numbers)
    names = {number: text for number, text in zip(labels.tolist(), texts.tolist(), strict=True) if number >= 0}
    return tuple(names[number] for number in sorted(names)), labels, f"data.class_column={column}"


def _text(value: object) -> str:
    return "" if value is None or value != value else str(value).strip()


def _of_clusters(
    config: RunConfig, run: Path, data: TrainingSet
) -> tuple[tuple[str, ...], NDArray[np.int64], str]:
    """Clusters without a picture are left out, and the others numbered anew."""
    where = f"palm.clusters_of={run}"
    if not (run / PROTOTYPES_FILE).is_file():
        raise ConfigError(f"{where}: no {PROTOTYPES_FILE} here: name a finished run with a prototype loss")
    of_rows, _ = prototype_labels(run, "image")
    if len(of_rows) != data.num_rows:
        raise DataError(f"{where}: has clusters of {len(of_rows)} training pairs, and here are {data.num_rows}")
    same_texts = load_run_config(run).data.text_columns == config.data.text_columns
    if not has_rows(run, data.rows_now, same_texts=same_texts):
        raise DataError(
            f"{where}: has clusters of other pictures, or of these in another order: give the data that it was "
            "trained on, as it was"
        )
    found = of_rows[data.rows]
    numbers, labels = np.unique(found[found >= 0], return_inverse=True)
    anew = np.full(len(found), -1, dtype=np.int64)
    anew[found >= 0] = labels
    return tuple(f"prototype {number}" for number in numbers), anew, where


def _warn(names: Sequence[str], labels: NDArray[np.int64], where: str) -> None:
    without = int((labels < 0).sum())
    if without:
        logger.warning("%s: %d of %d pictures have no class and teach nothing", where, without, len(labels))
    counts = np.bincount(labels[labels >= 0], minlength=len(names))
    alone = np.flatnonzero(counts == 1)
    if len(alone):
        logger.warning(
            "%s: %d of %d classes, such as %r, have one picture, and learn from nothing but its crops",
            where,
            len(alone),
            len(names),
            names[alone[0]],
        )

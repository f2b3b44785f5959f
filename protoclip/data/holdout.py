"""Splits training and validation pairs; rows that show the same thing stay on one side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError
from protoclip.sources import Pairs

from .groups import group_numbers
from .random_numbers import generator
from .rows_before import RowsAtFirst
from .table import training_pairs


@dataclass(frozen=True)
class Split:
    """Rows on their sides.

    Attributes:
        rows: of the training split, those that are held out included.
        training: to train on.
        held_out: to validate on; None where no validation is set.
        first: how many rows there were when the run began; as many as now in a new run.
        num_apart: rows that were added since, but show what is held out, and are on neither side.
        num_unmeasured: rows of `validation.split` that were added since, and are not validated on.
    """

    rows: Pairs
    training: Pairs
    held_out: Pairs | None
    first: RowsAtFirst
    num_apart: int = 0
    num_unmeasured: int = 0


def split_pairs(pairs: Pairs, config: RunConfig, first: RowsAtFirst | None = None) -> tuple[Pairs, Pairs | None]:
    """The pairs to train on and those to validate on; see `split_rows`."""
    split = split_rows(pairs, config, first)
    return split.training, split.held_out


def split_rows(pairs: Pairs, config: RunConfig, first: RowsAtFirst | None = None) -> Split:
    """The pairs to train on and those to validate on, None where no validation is set.

    `validation.fraction` takes whole groups of `data.group_column` out of the training split, single rows
    where there is none: the same ones for the same seed and groups. `validation.split` takes a value of
    `data.split_column`.

    Args:
        first: the rows that a run began with, the first ones of `pairs`: it validates on the same ones as then.

    Raises:
        ConfigError: a split without a column, or a fraction that leaves a side empty.
        DataError: a column isn't there, or no row has the split.
    """
    train, validation = training_pairs(pairs, config.data), config.validation
    if validation.split is not None:
        return _with_split(train, _validation_split(pairs, config), first)
    count = len(train) if first is None else min(first.training, len(train))
    if validation.fraction == 0:
        return Split(train, train, None, RowsAtFirst(count, None))
    column = config.data.group_column
    begun = train if count == len(train) else train.select(np.arange(count))
    held = _held_out(_groups(begun, column), validation.fraction, config.train.seed)
    if held.all():
        raise ConfigError(f"validation.fraction={validation.fraction} leaves nothing to train on: lower it")
    apart = _shows_held_out(train, column, held)
    trained = np.concatenate([~held, ~apart])
    return Split(
        train,
        train.select(trained),
        train.select(np.flatnonzero(held)),
        RowsAtFirst(count, None),
        num_apart=int(apart.sum()),
    )


def _validation_split(pairs: Pairs, config: RunConfig) -> Pairs:
    split = config.validation.split
    if config.data.split_column is None:
        raise ConfigError(f"validation.split={split!r} is a value of data.split_column: set that too")
    if split == config.data.train_split:
        raise ConfigError(f"validation.split={split!r} is what is trained on: name another value")
    return training_pairs(pairs, config.data.model_copy(update={"train_split": split}))


def _with_split(train: Pairs, held_out: Pairs, first: RowsAtFirst | None) -> Split:
    if first is None or first.validation is None:
        return Split(train, train, held_out, RowsAtFirst(len(train), len(held_out)))
    kept = min(first.validation, len(held_out))
    measured = held_out if kept == len(held_out) else held_out.select(np.arange(kept))
    return Split(train, train, measured, first, num_unmeasured=len(held_out) - kept)


def _groups(pairs: Pairs, column: str | None) -> NDArray[np.int64]:
    if column is None:
        return np.arange(len(pairs))
    return group_numbers(pairs.column(column))


def _held_out(groups: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.bool_]:
    num_groups = int(groups.max()) + 1
    order = generator(seed, "validation").permutation(num_groups)
    return np.isin(groups, order[: math.ceil(fraction * num_groups)])


def _shows_held_out(train: Pairs, column: str | None, held: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each row after those of `held` is of a group that is held out."""
    if len(train) == len(held) or column is None:
        return np.zeros(len(train) - len(held), dtype=bool)
    groups = group_numbers(train.column(column))
    return np.isin(groups[len(held) :], groups[: len(held)][held])

"""Splits training and validation pairs; rows that show the same thing stay on one side."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError
from protoclip.sources import Pairs

from .groups import group_numbers
from .random_numbers import generator
from .table import training_pairs


def split_pairs(pairs: Pairs, config: RunConfig) -> tuple[Pairs, Pairs | None]:
    """The pairs to train on and those to validate on, None where no validation is set.

    `validation.fraction` takes whole groups of `data.group_column` out of the training split, single rows
    where there is none: the same ones for the same seed and groups. `validation.split` takes a value of
    `data.split_column`.

    Raises:
        ConfigError: a split without a column, or a fraction that leaves a side empty.
        DataError: a column isn't there, or no row has the split.
    """
    train, validation = training_pairs(pairs, config.data), config.validation
    if validation.split is not None:
        if config.data.split_column is None:
            raise ConfigError(
                f"validation.split={validation.split!r} is a value of data.split_column: set that too"
            )
        if validation.split == config.data.train_split:
            raise ConfigError(f"validation.split={validation.split!r} is what is trained on: name another value")
        chosen = config.data.model_copy(update={"train_split": validation.split})
        return train, training_pairs(pairs, chosen)
    if validation.fraction == 0:
        return train, None
    held = _held_out(_groups(train, config.data.group_column), validation.fraction, config.train.seed)
    if held.all():
        raise ConfigError(f"validation.fraction={validation.fraction} leaves nothing to train on: lower it")
    return train.select(~held), train.select(held)


def _groups(pairs: Pairs, column: str | None) -> NDArray[np.int64]:
    if column is None:
        return np.arange(len(pairs))
    return group_numbers(pairs.column(column))


def _held_out(groups: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.bool_]:
    num_groups = int(groups.max()) + 1
    order = generator(seed, "validation").permutation(num_groups)
    return np.isin(groups, order[: math.ceil(fraction * num_groups)])

"""The pairs of a run: read, split from the validation pairs, planned into episodes, and loaded in batches."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError
from protoclip.contract.model_inputs import ModelInputs
from protoclip.contract.picture_folders import Skipped
from protoclip.distributed.cores import cores_per_rank
from protoclip.sources import Pairs
from protoclip.sources.left_out import check_left_out, counts_by_reason
from protoclip.sources.row_choice import Rows
from protoclip.sources.stored import ImageColumn

from .batches import Batch, PairLoader, Requests
from .cache_folder import cache_folder
from .episodes import Order, Plan
from .feed import Feed
from .groups import group_numbers_in_sections
from .holdout import Split, split_rows
from .input_pipeline import InputPipeline
from .left_out import LeftOutPairs
from .pictures import Progress, readable_pictures
from .reduction import CropReduction
from .rows_before import RowsBefore, sections_now
from .sections import Section
from .table import load_pairs
from .token_cache import load_tokens
from .weighted_sources import WeightedSources

logger = logging.getLogger(__name__)
PALM_VIEWS = 2
_NUM_NAMED = 50
_MOST_WORKERS = 16


@dataclass(frozen=True)
class RowsNow:
    """The rows that were read, before they are planned.

    Attributes:
        pairs: to train on, N.
        rows: [N], the row of each pair in `split.training`; N is smaller where pictures could not be read.
        groups: [N] or None, as `Plan` takes them.
    """

    split: Split
    pairs: Pairs
    rows: Rows
    groups: NDArray[np.int64] | None


@dataclass(frozen=True)
class TrainingSet:
    """`N` pairs to train on.

    Attributes:
        rows: [N], the row of each pair among the `num_rows` training pairs of the data; N is smaller where
            pictures could not be read.
        split: the pairs to train on and to validate on, before broken pictures were left out.
        views: crops of each picture in a batch.
        feed: takes requests ahead, by worker processes; whoever takes batches must close it.
        left_out: rows, files and pictures that were passed over, before training and in batches.
    """

    pairs: Pairs
    rows: Rows
    num_rows: int
    split: Split
    plan: Plan
    loader: PairLoader
    pipeline: InputPipeline
    repeats: int
    views: int
    feed: Feed
    left_out: LeftOutPairs

    @property
    def held_out(self) -> Pairs | None:
        """Pairs to validate on; None where no validation is set."""
        return self.split.held_out

    @property
    def rows_now(self) -> RowsNow:
        """What the plan was made of."""
        return RowsNow(self.split, self.pairs, self.rows, self.plan.groups)

    def stream(self, requests: Iterable[Requests]) -> Iterator[Batch]:
        """The batches that are asked for, in order; what they leave out is counted and named."""
        return self.left_out.watched(map(self.feed.take, requests))


def build_training_set(
    config: RunConfig,
    inputs: ModelInputs,
    device: torch.device,
    progress: Progress,
    *,
    num_ranks: int,
    pairs: Pairs | None = None,
    order: Order | None = None,
    before: RowsBefore | None = None,
    check: Callable[[RowsNow], object] | None = None,
    write_cache: bool = True,
) -> TrainingSet:
    """Reads the pairs and their pictures, and checks that batches can be made of them.

    Args:
        pairs: instead of those of `data.path`.
        order: as `Plan` takes it.
        before: the rows of a run that is resumed, which must be the first ones of the data.
        check: whether they are; called before anything is made of the rows.
        write_cache: whether tokens of large data are made and kept in `data.cache_dir`, where they are not yet.

    Raises:
        ConfigError, DataError: names the setting or file that does not fit.
    """
    # A merged pair joins the teacher's features by the key of its first row.
    key = config.teacher.key_column if (config.teacher.path or "").endswith(".parquet") else None
    everything = load_pairs(config.data, key) if pairs is None else pairs
    split = split_rows(everything, config, None if before is None else before.first)
    found = split.training
    pictures, rows, broken = readable_pictures(
        found,
        inputs.pixels,
        config.data.cache_mb,
        progress,
        CropReduction.of(inputs.pixels, config.augmentation),
        left_out_before=() if before is None else before.left_out,
    )
    left_out = (*everything.left_out, *broken)
    _warn_of_left_out(left_out)
    limit, where = config.data.max_left_out, ", ".join(config.data.path)
    check_left_out(left_out, len(everything) - len(broken), limit, where)
    kept = found if len(rows) == len(found) else found.select(rows)
    sections = sections_now(before, len(kept))
    now = RowsNow(split, kept, rows, _groups(kept, config.data.group_column, sections))
    if check is not None:
        check(now)
    cache = cache_folder(config.data.cache_dir)
    tokens = load_tokens(kept.texts, inputs.tokenizer, cache, progress, write=write_cache)
    loader = PairLoader(pictures, tokens, inputs.pixels, config.augmentation, config.train.seed)
    views = PALM_VIEWS if config.is_palm else 1
    return TrainingSet(
        pairs=kept,
        rows=rows,
        num_rows=len(found),
        split=split,
        plan=_plan(now, config, num_ranks, order, sections),
        loader=loader,
        pipeline=InputPipeline(inputs.mean, inputs.std, config.augmentation, device),
        repeats=config.episode.repeats,
        views=views,
        feed=Feed(loader, _num_workers(config), config.train.batch_size // num_ranks * views),
        left_out=LeftOutPairs(left_out, len(kept), limit, where),
    )


def _num_workers(config: RunConfig) -> int:
    wanted = config.train.num_workers
    if sys.platform != "linux":
        # Forked processes share what is in memory, but the system's own libraries break in them elsewhere.
        if wanted:
            logger.warning(
                "train.num_workers=%d: worker processes need Linux: pictures are read between steps", wanted
            )
        return 0
    # One core is for the step.
    return min(_MOST_WORKERS, cores_per_rank() - 1) if wanted is None else wanted


def _warn_of_left_out(left_out: Sequence[Skipped]) -> None:
    if left_out:
        logger.warning("%d rows and files are left out: %s", len(left_out), counts_by_reason(left_out))
    for skipped in left_out[:_NUM_NAMED]:
        logger.warning("left out: %s: %s", skipped.name, skipped.reason)
    if len(left_out) > _NUM_NAMED:
        logger.warning("left out: %d more", len(left_out) - _NUM_NAMED)


def _plan(
    now: RowsNow, config: RunConfig, num_ranks: int, order: Order | None, sections: tuple[Section, ...]
) -> Plan:
    parts, pairs = num_ranks * config.train.accumulation, now.pairs
    if config.train.batch_size % parts:
        raise ConfigError(
            f"train.batch_size={config.train.batch_size} can't be divided by {num_ranks} ranks "
            f"times train.accumulation={config.train.accumulation}: take a multiple of {parts}"
        )
    if config.data.weights is not None and len(sections) > 1:
        raise ConfigError(
            f"data.weights: {len(pairs):,} pairs to train on instead of {sections[-2].turn_length:,}: a run with "
            "weights can't take more in: bring the old data back, or train anew with another --out"
        )
    return Plan(
        len(pairs),
        config.episode.size,
        config.train.batch_size,
        config.train.seed,
        now.groups,
        num_left_out=len(now.split.training) - len(pairs),
        order=order,
        weighted=_weighted(pairs, config),
        sections=sections if config.data.weights is None else None,
    )


def _weighted(pairs: Pairs, config: RunConfig) -> WeightedSources | None:
    weights = config.data.weights
    if weights is None:
        return None
    if not isinstance(pairs.images, ImageColumn):
        raise ConfigError(
            "data.weights are of what data.path names, and these pairs were made in Python: leave it out"
        )
    return WeightedSources(pairs.images.sources, weights, config.train.seed)


def _groups(pairs: Pairs, column: str | None, sections: Sequence[Section]) -> NDArray[np.int64] | None:
    if column is None:
        return None
    ends = [section.turn_length for section in sections]
    return group_numbers_in_sections(pairs.column(column), ends)

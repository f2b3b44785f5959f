"""What may change between the beginning of a run and its resumption, and what may not.

Settings that differ are named, with both values: those that may, in a warning; those that may not, in an error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from protoclip.config.catalogue import known_names
from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError, DataError
from protoclip.data.rows_before import RowsBefore
from protoclip.encoders.model import WEIGHTS_FILE
from protoclip.runs.files import load_run_config
from protoclip.runs.metrics import read_metrics
from protoclip.runs.palm import load_classes

from .checkpoint import Position, last_checkpoint, last_position
from .choices import value_of
from .optim import Schedule, learning_rate
from .session import Session, schedule_of
from .validation import Best

logger = logging.getLogger(__name__)

_ANEW = "or train anew with another --out"
_NO_INFLUENCE = "without influence on what is learned"
_NEXT_STEP = "from the next step on"
_NEXT_EPISODE = "from the next clustering on"
_SAME_ROWS = "if the rows are the same, or more at their end"

MAY_CHANGE: Mapping[str, str] = {
    "data.path": _SAME_ROWS,
    "data.image_column": _SAME_ROWS,
    "data.encoding": _SAME_ROWS,
    "data.delimiter": _SAME_ROWS,
    "data.layout": _SAME_ROWS,
    "data.max_left_out": _SAME_ROWS,
    "data.cache_mb": _NO_INFLUENCE,
    "data.cache_dir": _NO_INFLUENCE,
    "model.interpolate": "at the end",
    "teacher.path": "the clusters of its features are stored in the run",
    "clustering.num_iterations": _NEXT_EPISODE,
    "clustering.warm_iterations": _NEXT_EPISODE,
    "clustering.num_restarts": _NEXT_EPISODE,
    "clustering.backend": _NEXT_EPISODE,
    "optim.learning_rate": _NEXT_STEP,
    "optim.final_learning_rate": _NEXT_STEP,
    "optim.warmup_steps": _NEXT_STEP,
    "optim.lit_learning_rate": _NEXT_STEP,
    "optim.lit_warmup_steps": _NEXT_STEP,
    "optim.weight_decay": _NEXT_STEP,
    "optim.head_weight_decay": _NEXT_STEP,
    "optim.clip_norm": _NEXT_STEP,
    "train.steps": "the rest of the schedule is that of the new length",
    "train.passes": "the rest of the schedule is that of the new length",
    "train.accumulation": "rounding apart, the gradients are the same",
    "train.precision": _NEXT_STEP,
    "train.device": "rounding apart, the run is the same",
    "train.num_workers": _NO_INFLUENCE,
    "train.log_every_steps": _NO_INFLUENCE,
    "train.checkpoint_every_steps": _NO_INFLUENCE,
    "train.checkpoint_every_minutes": _NO_INFLUENCE,
    "train.keep_checkpoints": _NO_INFLUENCE,
    "validation.every_steps": _NEXT_STEP,
    "validation.patience": _NEXT_STEP,
    "validation.keep": "at the end",
    "evaluation.class_columns": _NO_INFLUENCE,
    "evaluation.cells": _NO_INFLUENCE,
    "evaluation.templates": _NO_INFLUENCE,
    "evaluation.captions": _NO_INFLUENCE,
    "evaluation.batch_size": _NO_INFLUENCE,
}
"""The settings that a resumed run may change, and when or why that is right."""


@dataclass(frozen=True)
class Change:
    """A setting whose value is another than when the run began."""

    setting: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.setting} = {_shown(self.now)}, was {_shown(self.before)}"


def changes(before: RunConfig, now: RunConfig) -> tuple[Change, ...]:
    """All settings that differ, in their order by name."""
    old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
    found = (Change(name, value_of(old, name), value_of(new, name)) for name in sorted(known_names()))
    return tuple(change for change in found if change.before != change.now)


def check_settings(run: Path, config: RunConfig) -> None:
    """Warns of every setting that a resumed run changes.

    A run without a checkpoint begins anew, and may change all of them.

    Raises:
        ConfigError: some may not change; names each with both values.
        ModelError: the run's configuration can't be read.
    """
    found = changes(load_run_config(run), config)
    refused = [] if last_checkpoint(run) is None else [change for change in found if not _may(change)]
    if refused:
        raise ConfigError(
            f"{run}: --resume can't change what the run was trained with: {_listed(refused)}: leave it, {_ANEW}"
        )
    for change in found:
        logger.warning(
            "%s: resumed with %s: %s", run, change, MAY_CHANGE.get(change.setting, "the run begins anew")
        )


def check_session(run: Path, session: Session, rows: RowsBefore | None) -> None:
    """Whether a resumed run can go on with the session's data and length.

    Args:
        rows: those that it had, as `begun` found them.

    Raises:
        ConfigError, DataError, ModelError: as `check_more_rows` and `check_length`.
    """
    if last_checkpoint(run) is not None:
        if rows is not None:
            check_more_rows(run, rows, session)
        grown = rows is not None and session.data.plan.num_pairs > rows.num_pairs
        before = schedule_of(load_run_config(run), session.data.plan, rows.sections if rows and grown else None)
        check_length(run, before, session.schedule, session.config)
        check_classes(run, session)


def check_classes(run: Path, session: Session) -> None:
    """Whether the pictures that the run had are of the classes that they were of.

    Raises:
        DataError: some are not, or there are other classes.
        ModelError: what the run kept of them is damaged.
    """
    if session.classes is None:
        return
    names, labels = load_classes(run)
    if names != session.classes.names or not np.array_equal(labels, session.classes.labels[: len(labels)]):
        raise DataError(
            f"{run}: pictures are of other classes than when the run began: bring those back, {_ANEW}, from these "
            f"weights: --set model.weights={_weights(run)}"
        )


def check_more_rows(run: Path, before: RowsBefore, session: Session) -> None:
    """Warns of what becomes of rows that were added since the run was last started.

    Raises:
        ConfigError: the run ends before it comes to them.
        DataError: the run has a teacher, whose clusters are of the rows that there were.
    """
    plan, schedule = session.data.plan, session.schedule
    _warn_of_rows_apart(run, before, session)
    added = plan.num_pairs - before.num_pairs
    if not added:
        return
    if session.config.teacher.path is not None:
        raise DataError(
            f"{run}: {added:,} more pairs can't join a run with teacher.path, whose features were clustered once: "
            "bring the old data back, or train anew with another --out, from these weights: "
            f"--set model.weights={_weights(run)}"
        )
    _check_patience(run, session.config)
    first = plan.sections[-1].first_episode
    first_step = first * schedule.steps_per_episode
    if first_step >= schedule.num_steps:
        raise ConfigError(
            f"{run}: {added:,} more pairs would come from step {first_step} on, where the episode under way ends, "
            f"but the run ends at step {schedule.num_steps}: raise {_length_setting(session.config)}"
        )
    logger.warning(
        "%s: %d pairs were added: from episode %d on, which begins after step %d, a pass goes through %d instead "
        "of %d",
        run,
        added,
        first,
        first_step,
        plan.num_pairs,
        before.num_pairs,
    )


def _warn_of_rows_apart(run: Path, before: RowsBefore, session: Session) -> None:
    split = session.data.split
    if split.num_apart and len(split.rows) > before.num_rows:
        logger.warning(
            "%s: %d rows that were added show what validation.fraction holds out: they are neither trained nor "
            "validated on",
            run,
            split.num_apart,
        )
    if split.num_unmeasured:
        logger.warning(
            "%s: validation.split=%r has %d rows that were added since the run began: it goes on validating on "
            "the first %d, so that its measurements can be compared",
            run,
            session.config.validation.split,
            split.num_unmeasured,
            split.first.validation,
        )


def _check_patience(run: Path, config: RunConfig) -> None:
    patience, position = config.validation.patience, last_position(run)
    done = 0 if position is None else position.step
    best = Best.of_lines(line for line in read_metrics(run) if line["step"] <= done)
    if patience is not None and best is not None and best.misses >= patience:
        raise ConfigError(
            f"{run}: validation.patience={patience} has ended the run, and no added pair would be trained on: "
            "raise it, or set it to none"
        )


def _length_setting(config: RunConfig) -> str:
    return "train.steps" if config.train.steps is not None else "train.passes"


def check_length(run: Path, before: Schedule, now: Schedule, config: RunConfig) -> None:
    """Warns where the length of a resumed run changes its learning rate.

    From the checkpoint on, learning rates are those of a run that had the new length from the start; the steps
    before had those of the old length.

    Raises:
        ConfigError: the run has done more steps already, or the LiT stage would move to or from what was done.
    """
    position = last_position(run)
    if position is None or before == now:
        return
    _check_steps(run, position, before, now)
    if 0 < position.step < now.num_steps:
        logger.warning(
            "%s: %d steps instead of %d: learning rates go on as in a run of that length, with %.3g after %.3g",
            run,
            now.num_steps,
            before.num_steps,
            learning_rate("text", position.step, now, config.optim),
            learning_rate("text", position.step - 1, before, config.optim),
        )


def reopen(run: Path, schedule: Schedule) -> None:
    """Takes the mark of its end from a finished run that is to go on."""
    position = last_position(run)
    if position is not None and position.step < schedule.num_steps:
        (run / WEIGHTS_FILE).unlink(missing_ok=True)


def _check_steps(run: Path, position: Position, before: Schedule, now: Schedule) -> None:
    if now.num_steps < position.step:
        raise ConfigError(
            f"{run}: train.steps={now.num_steps}: the run has done {position.step} already: give at least as many"
        )
    if position.step > min(before.lit_start, now.lit_start) and before.lit_start != now.lit_start:
        raise ConfigError(
            f"{run}: with {now.num_steps} steps instead of {before.num_steps} those of episode.lit_episodes "
            f"begin at step {now.lit_start} instead of {before.lit_start}, but the run has done {position.step}: "
            f"leave the length, {_ANEW}"
        )


def _weights(run: Path) -> Path:
    folder = last_checkpoint(run)
    return (run if folder is None else folder) / WEIGHTS_FILE


def _may(change: Change) -> bool:
    if change.setting == "teacher.path" and None in (change.before, change.now):
        return False
    return change.setting in MAY_CHANGE


def _listed(found: Iterable[Change]) -> str:
    return "; ".join(map(str, found))


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)

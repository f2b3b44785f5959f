"""What a run decided when it began, and keeps when it is resumed. `N` training pairs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ModelError
from protoclip.data.episodes import Order
from protoclip.data.rows_before import RowsAtFirst, RowsBefore
from protoclip.data.sections import Section
from protoclip.distributed import collectives
from protoclip.runs.files import (
    PLAN_FILE,
    ROWS_FILE,
    began_before_color_management,
    load_teacher_labels,
    with_begun_teacher,
    with_stored_colors,
    with_teacher_prototypes,
)
from protoclip.runs.rows import ANEW, load_plan, load_rows

from .checkpoint import last_checkpoint, next_episode

logger = logging.getLogger(__name__)

_ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True)
class Begun:
    """Decisions of a run that is resumed; None where there is none.

    Attributes:
        order: how its plan permutes the pairs.
        teacher_labels: y_ext [N].
        rows: those that it had.
    """

    order: Order | None = None
    teacher_labels: NDArray[np.int32] | None = None
    rows: RowsBefore | None = None


def begun(run: Path, *, with_teacher: bool) -> Begun:
    """What the first rank finds in the run's folder, on every rank.

    A run with a checkpoint that an earlier version began goes on in its shuffled order. If it has a teacher and
    did not store the labels, a warning says so, and they are made again.

    Raises:
        ModelError: a file is damaged, or of a later version.
    """
    return Begun(_order(run), _teacher_labels(run, with_teacher), _rows(run))


def _rows(run: Path) -> RowsBefore | None:
    """None without a checkpoint, or where an earlier version began the run."""
    found = collectives.on_first(lambda: _stored_rows(run))
    numbers = collectives.from_first(np.array([] if found is None else _numbers_of(found), dtype=np.int64))
    return _rows_of(numbers.tolist()) if len(numbers) else None


def as_begun(config: RunConfig, run: Path) -> RunConfig:
    """On every rank: what the configuration leaves open, and the run has decided.

    A run begun by a version without `model.color_management` goes on with pictures as stored, and one whose
    teacher had a number of prototypes keeps it.
    """
    number = collectives.on_first(lambda: with_begun_teacher(config, run).teacher.num_prototypes)
    number = int(collectives.from_first(np.array([number or 0], dtype=np.int64))[0])
    config = with_teacher_prototypes(config, number or None)
    earlier = collectives.on_first(lambda: began_before_color_management(run))
    if not collectives.from_first(np.array([bool(earlier)], dtype=np.int64))[0]:
        return config
    if collectives.is_first() and config.model.color_management != "stored":
        logger.warning("%s: an earlier version began it, with colours as stored: it goes on with these", run)
    return with_stored_colors(config)


def _order(run: Path) -> Order | None:
    place = collectives.on_first(lambda: _stored_order(run))
    places = collectives.from_first(np.array([] if place is None else [place], dtype=np.int64))
    return _ORDERS[int(places[0])] if len(places) else None


def _stored_order(run: Path) -> int | None:
    """Its place in `_ORDERS`."""
    plan = load_plan(run)
    if plan is None:
        return None if last_checkpoint(run) is None else _ORDERS.index("shuffled")
    order, _ = plan
    if order not in _ORDERS:
        raise ModelError(f"{run / PLAN_FILE}: order {order!r} is unknown: resume with the version that wrote it")
    return _ORDERS.index(order)


def _teacher_labels(run: Path, with_teacher: bool) -> NDArray[np.int32] | None:
    found = collectives.on_first(lambda: load_teacher_labels(run))
    if found is None and with_teacher and collectives.is_first() and last_checkpoint(run) is not None:
        logger.warning(
            "%s: an earlier version did not store its teacher's clusters, which are made again: on another "
            "number of ranks the rest of this episode learns from wrong ids: watch loss_ext",
            run,
        )
    labels = collectives.from_first(np.zeros(0, dtype=np.int64) if found is None else found)
    return labels.astype(np.int32) if len(labels) else None


def _stored_rows(run: Path) -> RowsBefore | None:
    stored, plan = load_rows(run), load_plan(run)
    has_record = stored is not None and stored.record is not None
    if last_checkpoint(run) is None or not (has_record or (plan and plan[1])):
        return None
    if stored is None or stored.record is None or plan is None:
        # Whoever writes the one writes the other: without it a run would go on as if it had never taken rows in.
        missing = PLAN_FILE if plan is None else ROWS_FILE
        raise ModelError(f"{run / missing}: is missing or of an earlier version: {ANEW}")
    _, listed = plan
    # The plan is written before the rows: a run that was killed in between has a section that did not begin.
    sections = tuple(section for section in listed if section.turn_length <= stored.pairs)
    sections = sections or (Section(0, stored.pairs),)
    if sections[-1].turn_length != stored.pairs:
        raise ModelError(
            f"{run / PLAN_FILE}: its sections end with {sections[-1].turn_length} pairs, but the run has "
            f"{stored.pairs}: {ANEW}"
        )
    record = stored.record
    return RowsBefore(record.first, record.num_rows, record.left_out, sections, next_episode(run))


def _numbers_of(rows: RowsBefore) -> list[int]:
    validation = -1 if rows.first.validation is None else rows.first.validation
    listed = [number for own in rows.sections for number in (own.first_episode, own.turn_length)]
    head = [rows.first.training, validation, rows.num_rows, rows.next_episode, len(rows.sections)]
    return [*head, *listed, *rows.left_out]


def _rows_of(numbers: list[int]) -> RowsBefore:
    training, validation, num_rows, following, count = numbers[:5]
    listed, left_out = numbers[5 : 5 + 2 * count], numbers[5 + 2 * count :]
    sections = tuple(Section(*own) for own in zip(listed[::2], listed[1::2], strict=True))
    first = RowsAtFirst(training, None if validation < 0 else validation)
    return RowsBefore(first, num_rows, tuple(left_out), sections, following)

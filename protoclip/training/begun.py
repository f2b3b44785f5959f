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
from protoclip.distributed import collectives
from protoclip.runs.files import (
    PLAN_FILE,
    began_before_color_management,
    load_order,
    load_teacher_labels,
    with_stored_colors,
)

from .checkpoint import last_checkpoint

logger = logging.getLogger(__name__)

_ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True)
class Begun:
    """Decisions of a run that is resumed; None where there is none.

    Attributes:
        order: how its plan permutes the pairs.
        teacher_labels: y_ext [N].
    """

    order: Order | None = None
    teacher_labels: NDArray[np.int32] | None = None


def begun(run: Path, *, with_teacher: bool) -> Begun:
    """What the first rank finds in the run's folder, on every rank.

    A run with a checkpoint that an earlier version began goes on in its shuffled order. If it has a teacher and
    did not store the labels, a warning says so, and they are made again.

    Raises:
        ModelError: a file is damaged, or of a later version.
    """
    return Begun(_order(run), _teacher_labels(run, with_teacher))


def as_begun(config: RunConfig, run: Path) -> RunConfig:
    """On every rank: a run begun by a version without `model.color_management` goes on with pictures as stored."""
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
    order = load_order(run)
    if order is None:
        return None if last_checkpoint(run) is None else _ORDERS.index("shuffled")
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

"""Whether a resumed run has the rows that it began with, or more at their end. `N` training pairs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import DataError, ModelError
from protoclip.contract.files import write_text
from protoclip.data.flat_texts import digest_of
from protoclip.data.training_set import RowsNow
from protoclip.distributed import collectives
from protoclip.runs.files import ROWS_FILE
from protoclip.runs.rows import RowsRecord, StoredRows, load_rows
from protoclip.sources import Pairs
from protoclip.sources.columns import num_texts

from .checkpoint import last_checkpoint

_SAMPLE = 2**16
_PICTURE_SAMPLE = 2**8
_THREADS = 8


def store_rows(run: Path, now: RowsNow) -> None:
    """Writes what `check_rows` compares with, and what `begun` reads.

    Of pictures it takes 256, evenly spaced and with the last, which is another where a row was put in between.
    """
    split = now.split
    record = RowsRecord(
        first=split.first,
        num_rows=len(split.rows),
        num_texts=num_texts(split.rows.texts),
        texts=_digest(split.rows),
        pictures=_digest_of_pictures(split.rows),
        held_out=None if split.held_out is None else _digest(split.held_out),
        held_out_pictures=None if split.held_out is None else _digest_of_pictures(split.held_out),
        groups=_digest_of_groups(now.groups),
        left_out=_left_out(now),
    )
    stored = {"pairs": len(now.pairs), "digest": _digest(now.pairs), "record": dataclasses.asdict(record)}
    write_text(run / ROWS_FILE, json.dumps(stored) + "\n")


def check_rows(run: Path, now: RowsNow) -> None:
    """Compares the rows with those that a run with a checkpoint was trained on; more at their end are right.

    Compared are their numbers, groups, how many texts they have, and the texts of up to 65,536 of them, evenly
    spaced: rows that were added elsewhere, lost or moved are found, a caption mended between these is not.
    Where rows were added, 256 pictures are compared too: rows of equal texts are told apart by these alone. A run
    that an earlier version began has less stored, or nothing, and less is compared.

    Raises:
        DataError: the rows are others: an episode under way would go on with the wrong ones.
        ModelError: the run's file is damaged.
    """
    last, stored = last_checkpoint(run), load_rows(run)
    if last is None or stored is None:
        return
    told = _other_pairs(stored, now) if stored.record is None else _other_rows(stored, stored.record, now)
    if told is not None:
        raise DataError(
            f"{run}: {told}: bring the old data back, or "
            f"train anew with another --out, from these weights: --set model.weights={last / 'model.safetensors'}"
        )


def has_rows(run: Path, now: RowsNow, *, same_texts: bool) -> bool:
    """Whether another run was trained on these rows in this order, by what `store_rows` samples of them.

    Args:
        same_texts: whether both read their texts from the same columns; else pictures alone are compared.

    Raises:
        ModelError: the run's file is missing or damaged.
    """
    stored = load_rows(run)
    if stored is None:
        raise ModelError(f"{run}: no {ROWS_FILE} here: name a run that `protoclip train` wrote")
    if stored.record is None:
        return _digest(now.pairs) == stored.digest
    rows = now.split.rows
    if len(rows) != stored.record.num_rows or (same_texts and _digest(rows) != stored.record.texts):
        return False
    return _digest_of_pictures(rows) == stored.record.pictures


def check_ranks(num_pairs: int) -> None:
    """Whether every rank has read the same number of pairs. All ranks call it.

    Raises:
        DataError: on every rank, where one has another number.
    """
    most, fewest = collectives.largest(num_pairs, -num_pairs)
    if most != -fewest:
        raise DataError(
            f"data.path: one rank reads {most:,} pairs to train on and another {-fewest:,}: let all hosts read "
            "the same data"
        )


def _other_pairs(stored: StoredRows, now: RowsNow) -> str | None:
    """How the pairs differ; None where they don't."""
    count, found = stored.pairs, len(now.pairs)
    if found == count:
        same = _digest(now.pairs) == stored.digest
        return None if same else _told(f"other texts or another order: {found:,}", count)
    told = _told(f"{abs(found - count):,} {'more' if found > count else 'fewer'}: {found:,}", count)
    if found > count:
        told += ", and an earlier version began it, which did not store what is needed to take more in"
    return told


def _other_rows(stored: StoredRows, record: RowsRecord, now: RowsNow) -> str | None:
    """How the rows that the run had differ, or that some of them are gone; None where they are as they were."""
    rows, count, found = now.split.rows, record.num_rows, len(now.split.rows)
    if found < count:
        return _told(f"{count - found:,} fewer: {len(now.pairs):,}", stored.pairs)
    had = _first(rows, count)
    told_texts = "other texts or another order" + (
        ", or rows that were not added at the end" if found > count else ""
    )
    if _digest(had) != record.texts:
        return _told(f"{told_texts}: {len(now.pairs):,}", stored.pairs)
    if num_texts(had.texts) != record.num_texts:
        return (
            f"the {count:,} rows that there were have {num_texts(had.texts):,} texts instead of "
            f"{record.num_texts:,}: a row that names the picture of another is no pair of its own, but adds a text"
        )
    if found > count and _digest_of_pictures(had) != record.pictures:
        return _told(f"{told_texts.replace('texts', 'pictures')}: {len(now.pairs):,}", stored.pairs)
    return _other_held_out(record, now) or _other_training_pairs(stored, record, now)


def _other_held_out(record: RowsRecord, now: RowsNow) -> str | None:
    held_out = now.split.held_out
    if held_out is None or record.held_out is None:
        return None
    same = len(held_out) == (record.first.validation or len(held_out)) and _digest(held_out) == record.held_out
    if same and now.split.num_unmeasured:
        same = _digest_of_pictures(held_out) == record.held_out_pictures
    return None if same else "the rows to validate on are not those that the run began with"


def _other_training_pairs(stored: StoredRows, record: RowsRecord, now: RowsNow) -> str | None:
    readable = int((now.rows[:] < stored.pairs + len(record.left_out)).sum())
    if readable < stored.pairs:
        gone = stored.pairs - readable
        return (
            f"{gone:,} of the {stored.pairs:,} pictures that it trains on can't be read: mend them, or set "
            "data.cache_mb=0, which leaves each out of its batch"
        )
    had = _first(now.pairs, stored.pairs)
    groups = now.groups
    own = None if groups is None else groups[: stored.pairs]
    if _digest(had) == stored.digest and _digest_of_groups(own) == record.groups:
        return None
    return _told(f"other groups: {len(now.pairs):,}", stored.pairs)


def _told(what: str, count: int) -> str:
    return f"the data has {what} pairs to train on, but the run began with {count:,}"


def _first(pairs: Pairs, count: int) -> Pairs:
    return pairs if count == len(pairs) else pairs.select(np.arange(count))


def _sampled(length: int, size: int) -> list[int]:
    """Evenly spaced places, the last one with them."""
    places = np.linspace(0, length - 1, min(size, length)).astype(np.int64)
    return [int(place) for place in np.unique(places)]


def _left_out(now: RowsNow) -> tuple[int, ...]:
    count = len(now.split.training)
    # Mostly none is: nothing is sorted for millions of rows then.
    return () if len(now.rows) == count else tuple(np.setdiff1d(np.arange(count), now.rows[:]).tolist())


def _digest(pairs: Pairs) -> str:
    return digest_of([pairs.texts[row] for row in _sampled(len(pairs), _SAMPLE)])[0]


def _digest_of_pictures(pairs: Pairs) -> str:
    """Of their encoded bytes; one that can't be read counts as empty."""

    def digest(row: int) -> bytes:
        try:
            return hashlib.blake2b(pairs.read_image(row), digest_size=16).digest()
        except DataError:
            return b""

    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(digest, _sampled(len(pairs), _PICTURE_SAMPLE)))
    return hashlib.blake2b(b"/".join(found), digest_size=16).hexdigest()


def _digest_of_groups(groups: NDArray[np.int64] | None) -> str | None:
    return None if groups is None else hashlib.blake2b(groups.tobytes(), digest_size=16).hexdigest()

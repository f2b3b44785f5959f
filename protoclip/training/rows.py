"""Whether the data of a resumed run is that which it began with. `N` training pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from protoclip.contract.errors import DataError, ModelError
from protoclip.contract.files import write_text
from protoclip.data.flat_texts import digest_of
from protoclip.runs.files import ROWS_FILE
from protoclip.sources import Pairs

from .checkpoint import last_checkpoint

_SAMPLE = 2**16


def store_rows(run: Path, pairs: Pairs) -> None:
    """Writes what `check_rows` compares with."""
    write_text(run / ROWS_FILE, json.dumps({"pairs": len(pairs), "digest": _digest(pairs)}) + "\n")


def check_rows(run: Path, pairs: Pairs) -> None:
    """Compares the pairs with those that a run with a checkpoint was trained on.

    Compared are their number and the texts of up to 65,536 of them, evenly spaced: rows that were added, lost or
    moved are found, a caption that was mended between these is not. Pictures may lie elsewhere. A run that an
    earlier version began has nothing stored, and is not compared.

    Raises:
        DataError: the pairs are others: an episode under way would go on with the wrong ones.
        ModelError: the run's file is damaged.
    """
    path = run / ROWS_FILE
    last = last_checkpoint(run)
    if last is None or not path.is_file():
        return
    try:
        stored = json.loads(path.read_bytes())
        count, digest = int(stored["pairs"]), str(stored["digest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: can't be read: {error}: train anew, with another --out") from error
    if count == len(pairs) and digest == _digest(pairs):
        return
    if count != len(pairs):
        told = f"{abs(len(pairs) - count):,} {'more' if len(pairs) > count else 'fewer'}: {len(pairs):,} pairs"
    else:
        told = f"other texts or another order: {len(pairs):,} pairs"
    raise DataError(
        f"{run}: the data has {told} to train on, but the run began with {count:,}: bring the old data back, or "
        f"train anew with another --out, from these weights: --set model.weights={last / 'model.safetensors'}"
    )


def _digest(pairs: Pairs) -> str:
    rows = np.unique(np.linspace(0, len(pairs) - 1, min(_SAMPLE, len(pairs))).astype(np.int64))
    return digest_of([pairs.texts[row] for row in rows])[0]

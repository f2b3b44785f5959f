"""Writes batches to an index until it is killed, and prints the number of each that it was told is written."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH, DIM, IDS = 40, 8, 100
Row = tuple[str, dict[str, Any], NDArray[np.float32]]


def batch(number: int) -> list[Row]:
    """Entries of a batch: some under ids of their own, and some in place of earlier ones."""
    rng = np.random.default_rng(number)
    own = [f"{number}/{row}" for row in range(BATCH // 2)]
    shared = [f"shared {place}" for place in rng.choice(IDS, BATCH // 2, replace=False)]
    vectors = rng.standard_normal((BATCH, DIM)).astype(np.float32)
    return [(name, {"batch": number}, vector) for name, vector in zip([*own, *shared], vectors, strict=True)]


def write(store: Any, number: int) -> None:
    """Upserts a batch."""
    rows = batch(number)
    store.upsert(np.stack([row[2] for row in rows]), [row[0] for row in rows], [row[1] for row in rows])


def main() -> None:
    """`store_writer.py ADDRESS FIRST`"""
    from protoclip.search import open_index

    address, first = sys.argv[1:]
    number = int(first)
    with open_index(address) as store:
        print("ready", flush=True)
        while True:
            write(store, number)
            print(number, flush=True)
            number += 1


if __name__ == "__main__":
    main()

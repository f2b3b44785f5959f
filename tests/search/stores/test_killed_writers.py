"""A writer that is killed in a batch: what was acknowledged is there, and a repeated call mends the rest."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import Any

import store_writer
from forked_python import ForkedPython
from search_engines import Engine
from store_writer import BATCH, DIM, batch, write

from protoclip.search import Store, open_index, traits_of
from protoclip.search.vectors import unit_rows

ROUNDS = 3


def test_killed_in_the_middle_of_batches(engine: Engine) -> None:
    rng = random.Random(0)
    with engine.create(DIM) as store:
        address = str(store.path)
    number = 0
    for _ in range(ROUNDS):
        acknowledged = _killed(address, number, rng)
        with open_index(address) as store:
            last = max([number - 1, *acknowledged])
            assert acknowledged == list(range(number, last + 1))
            under_way = last + 1
            _check(store, last, under_way)
            # The same call again makes it whole, wherever it was ended.
            write(store, under_way)
            assert _state(store) == _expected(under_way)
            number = under_way + 1
    assert number > ROUNDS


def _killed(address: str, first: int, rng: random.Random) -> list[int]:
    """Batches that a writer acknowledged before it was killed."""
    command = [sys.executable, store_writer.__file__, address, str(first)]
    writer = ForkedPython(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    said = [writer.stdout.readline() for _ in range(rng.randrange(1, 6))]
    time.sleep(rng.uniform(0, 0.02))
    writer.kill()
    said += writer.stdout.readlines()
    writer.stdout.close()
    writer.wait()
    assert said[0] == "ready\n"
    # A line may have been cut off.
    return [int(line) for line in said[1:] if line.endswith("\n")]


def _check(store: Store, last: int, under_way: int) -> None:
    """All of what was acknowledged, and of the call under way all or nothing, or else any part of it."""
    before, after, found = _expected(last), _expected(under_way), _state(store)
    if traits_of(store).transactions:
        assert found in (before, after)
        return
    assert set(before) <= set(found) <= set(after)
    for name, value in found.items():
        assert value in (before.get(name), after[name]), name


def _state(store: Store) -> dict[str, Any]:
    entries = list(store.iterate())
    found = {entry.id: (entry.metadata["batch"], *entry.vector.tolist()) for entry in entries}
    assert len(found) == len(entries) == store.count(), "an id is there twice"
    return found


def _expected(last: int) -> dict[str, Any]:
    found = {}
    for number in range(last + 1):
        for name, metadata, vector in batch(number):
            (unit,) = unit_rows(vector, DIM)
            found[name] = (metadata["batch"], *unit.tolist())
    assert len(found) >= BATCH // 2 * (last + 1)
    return found

"""Batches are the same with any number of workers, and workers end with what they work for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from protoclip.config.load import build_config
from protoclip.contract.errors import ProtoclipError
from protoclip.data.batches import Batch, PairLoader, Requests
from protoclip.data.feed import Feed
from protoclip.data.workers import Piece, WorkerPool
from protoclip.training.session import build_session

OWNER = """
import os, sys
import numpy as np
from protoclip.data.workers import WorkerPool
pool = WorkerPool(lambda *_: [None], num_workers=2, capacity=4, batch_size=1, height=2, width=2)
print(*(worker.process.pid for worker in pool._workers), flush=True)
os.kill(os.getpid(), {signal}) if {signal} else None
"""


@pytest.fixture
def loader(shapes_config: dict[str, Any]) -> PairLoader:
    return build_session(build_config(shapes_config, "test"), lambda items, _: items).data.loader


@pytest.fixture(params=[0, 1, 3])
def feed(loader: PairLoader, request: pytest.FixtureRequest) -> Iterator[Feed]:
    feed = Feed(loader, request.param, batch_size=12)
    yield feed
    feed.close()
    assert not multiprocessing.active_children()


def requests(count: int, batch_size: int = 12) -> list[Requests]:
    draws = np.random.default_rng(count)
    return [
        Requests(
            draws.permutation(72)[:batch_size], draws.permutation(72)[:batch_size], np.full(batch_size, visit)
        )
        for visit in range(count)
    ]


def assert_equal(ours: Batch, theirs: Batch) -> None:
    for name in ("positions", "pixels", "tokens", "colour_draws"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert ours.left_out == theirs.left_out


def test_batches_are_those_that_were_asked_for(feed: Feed, loader: PairLoader) -> None:
    """All of them expected, some in the middle, or none; smaller and larger ones too."""
    wanted = [*requests(8), *requests(3, 5), *requests(2, 50)]
    feed.expect(iter(wanted))
    for each in wanted:
        assert_equal(feed.take(each), loader.load(each))
    assert feed.num_unexpected == 0
    feed.expect(requests(6))
    for each in (requests(6)[0], *requests(4)[1:], *requests(6)):
        assert_equal(feed.take(each), loader.load(each))


def test_the_next_batches_are_prepared_while_nobody_waits(loader: PairLoader) -> None:
    feed = Feed(loader, 2, batch_size=12)
    feed.expect(requests(9))
    feed.take(requests(9)[0])
    ahead = [pending.requests for pending in feed._pending if pending.num_given]
    assert len(ahead) == 3
    assert all(map(Requests.equals, ahead, requests(9)[1:]))
    feed.close()


def test_a_worker_that_is_killed_ends_the_run_with_one_line(loader: PairLoader) -> None:
    feed = Feed(loader, 2, batch_size=12)
    feed.expect(requests(30))
    assert feed._pool is not None
    os.kill(feed._pool._workers[0].process.pid or 0, signal.SIGKILL)
    with pytest.raises(ProtoclipError, match=r"has ended by signal 9.*: lower train.num_workers") as caught:
        list(map(feed.take, requests(30)))
    assert "\n" not in str(caught.value)
    feed.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_leaves_the_workers_at_work(
    loader: PairLoader, number: signal.Signals
) -> None:
    """The run has to finish its step and to save."""
    feed = Feed(loader, 2, batch_size=12)
    feed.take(requests(2)[0])
    assert feed._pool is not None
    for worker in feed._pool._workers:
        os.kill(worker.process.pid or 0, number)
    assert_equal(feed.take(requests(2)[1]), loader.load(requests(2)[1]))
    feed.close()


def test_a_mistake_in_a_worker_shows_its_trace() -> None:
    def crop(indices: NDArray[np.int64], visits: NDArray[np.int64], pixels: NDArray[np.uint8]) -> list[str | None]:
        raise KeyError("a mistake")

    pool = WorkerPool(crop, num_workers=1, capacity=2, batch_size=1, height=1, width=1)
    piece = Piece(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
    pool.give(piece)
    with pytest.raises(RuntimeError, match=r"in crop\n.*\n.*a mistake"):
        pool.wait_for(piece)
    pool.close()


@pytest.mark.parametrize("number", [9, 0])
def test_workers_end_with_their_owner(number: int) -> None:
    """Killed, or at its end without having closed anything."""
    done = subprocess.run(
        [sys.executable, "-c", OWNER.replace("{signal}", str(number))], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == -number, done.stderr
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2
    until = time.monotonic() + 60
    while any(is_alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(is_alive(pid) for pid in pids)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

"""Batches hold the pairs that can be loaded, and nothing of those that can't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from protoclip.config.load import build_config
from protoclip.contract.errors import DataError
from protoclip.data.batches import Requests
from protoclip.data.feed import Feed
from protoclip.prototypes.objective import Rows
from protoclip.training.optim import Stage
from protoclip.training.session import Session, build_session
from protoclip.training.step import TrainStep

BROKEN = [5, 9]


@pytest.fixture
def session(shapes_config: dict[str, Any], shapes_file: Path, tmp_path: Path) -> Session:
    """Of 72 pairs, two of them with broken pictures, which are found when they are loaded."""
    rows = parquet.read_table(shapes_file).to_pylist()
    for row in BROKEN:
        rows[row]["image"] = rows[row]["image"][:40]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "broken.parquet")
    shapes_config["data"] |= {"path": [str(tmp_path / "broken.parquet")], "cache_mb": 0}
    return build_session(build_config(shapes_config, "test"), lambda items, _: items)


def requests(rows: list[int]) -> Requests:
    indices = np.array(rows, dtype=np.int64)
    return Requests(indices + 100, indices, np.full(len(rows), 3))


def test_a_batch_is_that_of_the_pairs_that_can_be_read(session: Session) -> None:
    loader = session.data.loader
    with_broken, without = loader.load(requests([3, 5, 8, 9, 10])), loader.load(requests([3, 8, 10]))
    for name in ("positions", "pixels", "tokens", "colour_draws"):
        assert torch.equal(getattr(with_broken, name), getattr(without, name)), name
    assert [(pair.position, pair.index) for pair in with_broken.left_out] == [(105, 5), (109, 9)]
    assert with_broken.left_out[0].picture.name.endswith("/broken.parquet: row 5")
    assert with_broken.left_out[0].picture.reason.startswith("the picture's header is damaged")
    assert without.left_out == ()


def test_workers_leave_out_the_same(session: Session) -> None:
    feed = Feed(session.data.loader, 2, batch_size=5)
    ours, theirs = (take(requests([3, 5, 8, 9, 10])) for take in (feed.take, session.data.loader.load))
    feed.close()
    assert torch.equal(ours.pixels, theirs.pixels)
    assert ours.left_out == theirs.left_out
    assert len(ours.left_out) == 2


def test_a_batch_may_be_empty(session: Session) -> None:
    batch = session.data.loader.load(requests(BROKEN))
    assert batch.pixels.shape == (0, 16, 16, 3)
    assert batch.tokens.shape == (0, 8)
    images, tokens = session.data.pipeline(batch)
    assert (len(images), len(tokens), len(batch.left_out)) == (0, 0, 2)


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_is_learned_from_fewer_than_two_pairs(session: Session, count: int) -> None:
    """Pictures that are gone altogether end the run, instead of steps that do nothing."""
    step = TrainStep(session.model.module, session.heads, session.optimizer, session.schedule, session.config)
    step.enter(Stage.WARMUP)
    images, tokens = session.data.pipeline(session.data.loader.load(requests([*BROKEN, 3][: 2 + count])))
    before = [parameter.clone() for parameter in session.model.module.parameters()]
    with pytest.raises(DataError, match=f"of the 12 pictures of a batch {count} can be read: check data.path"):
        step(7, images, tokens, Rows(torch.arange(count), None), None)
    assert all(map(torch.equal, before, session.model.module.parameters()))

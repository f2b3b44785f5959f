"""The latest projection at each position, against a dictionary."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from protoclip.prototypes.window import Window

CPU = torch.device("cpu")


def rows(count: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_the_last_row_at_a_position_counts() -> None:
    window, expected = Window(6, 3, CPU), {}
    rng = torch.Generator().manual_seed(0)
    for step in range(5):
        positions = torch.randperm(5, generator=rng)[:2]
        image, text, pairs = rows(2, step), rows(2, step + 10), positions + 100 * step
        window.keep(image, text, positions, pairs, step)
        expected |= {
            int(at): (i, t, int(pair)) for at, i, t, pair in zip(positions, image, text, pairs, strict=True)
        }
    shard = window.shard(2)
    assert shard.positions.tolist() == sorted(expected)
    assert shard.pairs is not None
    assert shard.is_new is not None
    written = {at: pair // 100 for at, (_, _, pair) in expected.items()}
    assert shard.is_new.tolist() == [written[at] >= 3 for at in sorted(expected)]
    assert 0 < shard.is_new.sum() < len(expected)
    assert shard.pairs.tolist() == [expected[at][2] if at in expected else -1 for at in range(6)]
    for at, image, text in zip(shard.positions.tolist(), shard.image, shard.text, strict=True):
        assert torch.equal(image, expected[at][0])
        assert torch.equal(text, expected[at][1])


def test_a_window_survives_a_checkpoint() -> None:
    window, other = Window(4, 3, CPU), Window(4, 3, CPU)
    window.keep(rows(2, 0), rows(2, 1), torch.tensor([3, 1]), torch.tensor([7, 8]), 0)
    other.keep(rows(1, 5), rows(1, 5), torch.tensor([2]), torch.tensor([9]), 3)
    other.restore(window.tensors())
    for each in (window, other):
        each.keep(rows(1, 2), rows(1, 3), torch.tensor([1]), torch.tensor([5]), 1)
    one, two = window.tensors(), other.tensors()
    assert one["window.pairs"].tolist() == [-1, 5, -1, 7]
    # What restoring found at a position without a row does not matter.
    filled = one["window.steps"] >= 0
    assert all(torch.equal(one[name][filled], two[name][filled]) for name in one)
    assert two["window.steps"].tolist() == [-1, 1, -1, 0]

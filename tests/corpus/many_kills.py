"""24 outputs, each killed until a run comes to its end: `make killed-output`, some 250 kills in four minutes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from killed_output import check_whole, kill_once

OUTPUTS = [(kind, name) for kind in ("embeddings", "classifications") for name in ("out", "out.parquet")]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("kind", "name"), OUTPUTS)
def test_killed_until_a_run_ends(kind: str, name: str, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    num_killed = 0
    while kill_once(kind, tmp_path / name, rng):
        num_killed += 1
    assert num_killed > 0
    print(f"{num_killed} kills")
    check_whole(kind, tmp_path / name)

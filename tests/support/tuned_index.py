"""A small index whose searches are approximate: pictures around themes, and texts that lie apart from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from protoclip.search import Index, upkeep
from protoclip.search.approximate import choosing

COUNT, DIM = 3000, 16
FINGERPRINT = "0123456789abcdef"
ENGINE = "IVF8,PQ8x4fs"
FEWER = 1000


def made(count: int, seed: int, *, texts: bool = False) -> NDArray[np.float32]:
    """`[count, 16]` around 40 themes; texts lie apart from pictures, and less near to their theme."""
    rng = np.random.default_rng(seed)
    themes = np.random.default_rng(99).standard_normal((40, DIM))
    rows = themes[rng.integers(0, 40, count)] + (1.0 if texts else 0.5) * rng.standard_normal((count, DIM))
    rows[:, 0] += -6 if texts else 6
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


PICTURES, TEXTS = made(COUNT, 0), made(500, 1, texts=True)
NEW_PICTURES, NEW_TEXTS = made(100, 2), made(100, 3, texts=True)


def make_tuned_index(path: Path, count: int = COUNT, texts: NDArray[np.float32] = TEXTS) -> Path:
    """`count` entries in segments of 992, and some behind them; tuned by texts, however fast that is."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(upkeep, "SEGMENT_ROWS", 992)
        patched.setattr(upkeep, "MAX_ROWS", 992)
        patched.setattr(choosing, "LEAST_SPEEDUP", 0.0)
        with Index.create(path, FINGERPRINT, DIM) as index:
            names, metadata = [f"picture {row}" for row in range(count)], [{"row": row} for row in range(count)]
            index.add(PICTURES[:count], names, metadata)
            index.tune(0.95, texts)
    return path

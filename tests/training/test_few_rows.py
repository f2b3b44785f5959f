"""Ranks without a row take part all the same."""

from __future__ import annotations

from pathlib import Path

import torch
from run_ranks import run_on_ranks
from safetensors.torch import load_file


def test_three_ranks_share_out_one_row_as_one_process_does(tmp_path: Path) -> None:
    """Validation pairs, points of K-means, clusters that follow, and rows of a teacher."""
    for num_ranks in (1, 3):
        run_on_ranks("few_rows.py", num_ranks, str(tmp_path / f"{num_ranks}.safetensors"))
    alone, several = (load_file(tmp_path / f"{num_ranks}.safetensors") for num_ranks in (1, 3))
    assert several.keys() == alone.keys()
    for name, value in alone.items():
        torch.testing.assert_close(
            several[name], value, rtol=0, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
        )

"""Data that a run has when it begins, and the same with rows added at the end. For tests of runs that grow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from tiny_training import COLOURS, SHAPES, draw_picture

Write = Callable[..., dict[str, Any]]


@pytest.fixture
def growing(shapes_config: dict[str, Any]) -> dict[str, Any]:
    """15 steps of 12 pairs without LiT: two episodes of six steps, and half of the third."""
    shapes_config["train"] |= {"steps": 15, "checkpoint_every_steps": 100}
    shapes_config["episode"]["lit_episodes"] = 0
    return shapes_config


@pytest.fixture
def write_rows(shapes_file: Path, tmp_path: Path) -> Write:
    """`write_rows(rows)`: settings of data with them; by default those of the run and 12 of two new groups."""

    def data(rows: list[dict[str, Any]] | None = None, name: str = "grown") -> dict[str, Any]:
        path = tmp_path / f"{name}.parquet"
        given = [*shapes_rows(shapes_file), *new_rows()] if rows is None else rows
        parquet.write_table(pa.Table.from_pylist(given), path)
        return {"path": [str(path)]}

    return data


def shapes_rows(file: Path) -> list[dict[str, Any]]:
    return parquet.read_table(file).to_pylist()  # type: ignore[no-any-return]


def new_rows(kinds: tuple[str, ...] = ("blue disc, other", "yellow bar, other")) -> list[dict[str, Any]]:
    """Six of each kind; sorted, kinds stand between those that there are."""
    places = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    return [
        {
            "image": draw_picture(*place, 5000 + 100 * number + seed),
            "texts": [f"another {kind} {seed}"],
            "kind": kind,
            "colour": place[0],
        }
        for number, (kind, place) in enumerate(zip(kinds, places[: len(kinds)], strict=True))
        for seed in range(6)
    ]

"""What the sections of a run's page show of its files: scores, clusters, sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import DataError
from protoclip.contract.pixels import PictureError
from protoclip.evaluation.scores import Classification, Evaluation, Subset
from protoclip.evaluation.table import percent
from protoclip.reports.thumbnails import data_uri
from protoclip.runs.files import PROTOTYPES_FILE, prototype_labels
from protoclip.sources import Pairs

from .cluster_sheets import ClusterSheet, choose_clusters, distinct
from .contents import Fact
from .filters import spoken


def score_tiles(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Values with what they are: recall at 1 and 5 and the first linear probe of the headline subset."""
    name, subset = headline_subset(evaluation)
    for k in (1, 5):
        yield percent(subset.retrieval.image_to_text[k]) + " %", f"right text {_first(k)}, {spoken(name)}"
    for column, scores in list(subset.classification.items())[:1]:
        if scores.linear_probe is not None:
            yield percent(scores.linear_probe) + " %", f"linear probe by {column}, {spoken(name)}"


def _first(k: int) -> str:
    return "first" if k == 1 else f"among the first {k}"


def headline_subset(evaluation: Evaluation) -> tuple[str, Subset]:
    """The first subset that was not trained on, or the first: probes have no score on their training data."""
    for name, subset in evaluation.subsets.items():
        if any(scores.linear_probe is not None for scores in subset.classification.values()):
            return name, subset
    return next(iter(evaluation.subsets.items()))


def by_column(evaluation: Evaluation) -> dict[str, dict[str, Classification]]:
    """The subsets' classifications by class column; a subset without a class there is left out."""
    return {
        column: {
            name: subset.classification[column]
            for name, subset in evaluation.subsets.items()
            if column in subset.classification
        }
        for column in evaluation.probes
    }


def cluster_panels(
    run: Path, pairs: Pairs, group_column: str | None, class_column: str | None
) -> dict[str, list[dict[str, Any]]]:
    """Some picture clusters and some text clusters of a run's prototypes; empty where it has none to show.

    Args:
        pairs: the training pairs, in the order in which they were trained on.
        class_column: what a cluster's purity is about; None: the groups.

    Raises:
        DataError: `pairs` are not those the prototypes were made from.
        ModelError: the prototypes' file is damaged.
    """
    if not (run / PROTOTYPES_FILE).is_file():
        return {}
    own = np.array([texts[0] for texts in pairs.texts], dtype=object)
    groups = own if group_column is None else pairs.column(group_column)
    classes = groups if class_column is None else pairs.column(class_column)
    sheets = {side: list(_side(run, side, pairs, classes, groups)) for side in ("image", "text")}
    return sheets if any(sheets.values()) else {}


def _side(
    run: Path, side: str, pairs: Pairs, classes: NDArray[Any], groups: NDArray[Any]
) -> Iterator[dict[str, Any]]:
    labels, _ = prototype_labels(run, side)
    if len(labels) != len(pairs):
        raise DataError(f"{run}: its prototypes are of {len(labels)} pairs, but {len(pairs)} were given")
    for sheet in choose_clusters(labels, classes, groups):
        yield {
            "sheet": sheet,
            "members": [member for row in _shown_rows(sheet, side, groups) if (member := _member(pairs, row))],
            "texts": distinct([pairs.texts[row][0] for row in np.flatnonzero(labels == sheet.cluster)], 8),
        }


def _shown_rows(sheet: ClusterSheet, side: str, groups: NDArray[Any]) -> list[int]:
    """One row per group for texts, since a group's texts look the same; all rows for pictures."""
    if side == "image":
        return list(sheet.members)
    return list({str(groups[row]): row for row in reversed(sheet.members)}.values())[::-1]


def _member(pairs: Pairs, row: int) -> dict[str, str] | None:
    """None where the picture can't be read: the evaluation has named it already."""
    try:
        return {"picture": data_uri(pairs.read_image(row)), "text": pairs.texts[row][0]}
    except (PictureError, DataError):
        return None


def tensor_facts(run: Path) -> Iterator[Fact]:
    """How many numbers each of the run's files of tensors holds, and its size."""
    from safetensors import safe_open

    for file in sorted(run.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as tensors:
            count = sum(int(np.prod(tensors.get_slice(name).get_shape())) for name in tensors.keys())  # noqa: SIM118
        yield Fact(file.name, f"{count:,} numbers, {file.stat().st_size / 1e6:.1f} MB")

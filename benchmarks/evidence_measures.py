"""The protocol's main measures of one run, and what it left beside them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from protoclip.data.table import load_pairs
from protoclip.evaluation.classify import class_numbers
from protoclip.evaluation.features import TorchModel
from protoclip.evaluation.runner import evaluate
from protoclip.runs.files import load_run_config
from protoclip.runs.metrics import read_metrics
from protoclip.runs.model import load_model
from protoclip.sources import Pairs

MEASURES = ("unseen concepts R@1", "unseen concepts R@5", "zero-shot by class", "linear probe by class")
_CLASS = "class"


@dataclass(frozen=True)
class Cells:
    """The values of `part` whose concepts were never seen, and those whose styles alone were not."""

    unseen_concepts: tuple[str, ...]
    unseen_styles: tuple[str, ...]


VALIDATION = Cells(("val_concept", "val_both"), ("val_style",))
TEST = {
    "icons": Cells(("unseen_name", "unseen_both"), ("unseen_set",)),
    "bundled": Cells(("unseen_concept", "unseen_both"), ("unseen_style",)),
}
# A class vector is of the class's name, or the mean of its members' texts.
ZERO_SHOT = {"icons": "plain", "bundled": "members"}


class Measured(BaseModel):
    """One run. Shares are in percent.

    Attributes:
        values: by MEASURES.
        curve: validation during training: step, R@1, R@5 of up to 2,000 pairs of unseen concepts.
        stability: of image labels, by step of the clustering: agreement (NMI) with those before.
        train_seconds: of the clock; means something only where nothing else ran.
        counts: items of each measure, and texts among which was searched.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: dict[str, float]
    curve: tuple[tuple[int, float, float], ...]
    stability: tuple[tuple[int, float | None], ...]
    clusterings: int
    train_seconds: float
    measure_seconds: float
    counts: dict[str, int]


def measure(run: Path, corpus: str, cells: Cells) -> Measured:
    """Embeds the cells' pictures and the training pictures that have a class, and measures."""
    started = time.perf_counter()
    config = load_run_config(run)
    pairs = load_pairs(config.data)
    parts = pairs.column("part").astype(str)
    classed = pairs.column(_CLASS).astype(str) != ""
    concepts = pairs.select(np.isin(parts, cells.unseen_concepts))
    styles = pairs.select(np.isin(parts, cells.unseen_styles) & classed)
    train = pairs.select((parts == "train") & classed)
    found = evaluate(
        TorchModel(load_model(run)),
        train,
        {"concepts": concepts, "styles": styles},
        group_column=config.data.group_column,
        class_columns=[_CLASS],
        templates=["plain"],
        seed=0,
    )
    recall = found.subsets["concepts"].retrieval.image_to_text
    by_class = found.subsets["styles"].classification[_CLASS]
    assert by_class.linear_probe is not None
    figures = (recall[1], recall[5], by_class.zero_shot[ZERO_SHOT[corpus]], by_class.linear_probe)
    counts = {name: figure.num_items for name, figure in zip(MEASURES, figures, strict=True)}
    lines = read_metrics(run)
    clusterings = [line for line in lines if line["kind"] == "episode"]
    return Measured(
        values={name: round(100 * figure.value, 3) for name, figure in zip(MEASURES, figures, strict=True)},
        curve=tuple(
            (line["step"], 100 * line["image_to_text_r1"], 100 * line["image_to_text_r5"])
            for line in lines
            if line["kind"] == "validation"
        ),
        stability=tuple((line["step"], line["stability_image"]) for line in clusterings),
        clusterings=len(clusterings),
        train_seconds=max(line["seconds"] for line in lines if line["kind"] == "step"),
        measure_seconds=time.perf_counter() - started,
        counts=counts
        | {
            "texts": found.subsets["concepts"].num_texts,
            "classes": num_classes(styles),
            "probe's training pictures": len(train),
        },
    )


def num_classes(pairs: Pairs) -> int:
    """Classes that the measured pictures have, of those to choose from."""
    names = sorted(set(pairs.column(_CLASS).astype(str).tolist()))
    return len(np.unique(class_numbers(pairs, _CLASS, names)))

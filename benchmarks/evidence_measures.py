"""The protocol's main measures of one run, and what it left beside them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from evidence_items import Parts, measure_parts
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from protoclip.data.table import load_pairs
from protoclip.evaluation.classify import class_numbers
from protoclip.evaluation.features import TorchModel
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


def written_counts(counts: Sequence[int]) -> str:
    """`0 0 0 0 2 1` as `0x4 2 1`: most concepts of a hard measure have no hit."""
    runs = [(value, len(list(same))) for value, same in groupby(counts)]
    return " ".join(str(value) if count == 1 else f"{value}x{count}" for value, count in runs)


def read_counts(written: Any) -> Any:
    """What `written_counts` wrote; other values are left to the schema."""
    if not isinstance(written, str):
        return written
    parts = [re.fullmatch(r"(\d+)(?:x(\d+))?", word) for word in written.split()]
    if not all(parts):
        raise ValueError(f"{written[:30]!r}: numbers such as 0x4 2 1 are wanted")
    return tuple(int(part[1]) for part in parts if part for _ in range(int(part[2] or 1)))


Counts = Annotated[tuple[int, ...], BeforeValidator(read_counts), PlainSerializer(written_counts, return_type=str)]


class Measured(BaseModel):
    """One run. Shares are in percent.

    Attributes:
        values: by MEASURES.
        curve: validation during training: step, R@1, R@5 of up to 2,000 pairs of unseen concepts; none where
            nothing was held out for it.
        stability: of image labels, by step of the clustering: agreement (NMI) with those before.
        train_seconds: of the clock; means something only where nothing else ran.
        counts: items of each measure, and texts among which was searched.
        hits, sizes: right pictures and all pictures of each concept, by measure; the first runs kept none.
        curve_seconds: of the clock, from the start of training to each point of the curve, without validation.
        cpu_seconds: the processor's, for the whole of training; None where it was resumed, or not taken.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: dict[str, float]
    curve: tuple[tuple[int, float, float], ...]
    stability: tuple[tuple[int, float | None], ...]
    clusterings: int
    train_seconds: float
    measure_seconds: float
    counts: dict[str, int]
    hits: dict[str, Counts] = {}
    sizes: dict[str, Counts] = {}
    curve_seconds: tuple[float, ...] = ()
    cpu_seconds: float | None = None


def measure(run: Path, corpus: str, cells: Cells, cpu_seconds: float | None = None) -> Measured:
    """Embeds the cells' pictures and the training pictures that have a class, and measures."""
    started = time.perf_counter()
    config = load_run_config(run)
    pairs = load_pairs(config.data)
    assert config.data.split_column is not None
    parts = pairs.column(config.data.split_column).astype(str)
    classed = pairs.column(_CLASS).astype(str) != ""
    measured = Parts(
        train=pairs.select((parts == "train") & classed),
        concepts=pairs.select(np.isin(parts, cells.unseen_concepts)),
        styles=pairs.select(np.isin(parts, cells.unseen_styles) & classed),
    )
    assert config.data.group_column is not None
    found = measure_parts(
        TorchModel(load_model(run)),
        measured,
        group_column=config.data.group_column,
        class_column=_CLASS,
        way=ZERO_SHOT[corpus],
    )
    named = dict(zip(MEASURES, found.items, strict=True))
    lines = read_metrics(run)
    clusterings = [line for line in lines if line["kind"] == "episode"]
    curve = [line for line in lines if line["kind"] == "validation"]
    return Measured(
        values={name: round(items.percent, 3) for name, items in named.items()},
        curve=tuple(
            (line["step"], 100 * line["image_to_text_r1"], 100 * line["image_to_text_r5"]) for line in curve
        ),
        stability=tuple((line["step"], line["stability_image"]) for line in clusterings),
        clusterings=len(clusterings),
        train_seconds=max(line["seconds"] for line in lines if line["kind"] == "step"),
        measure_seconds=time.perf_counter() - started,
        counts={name: len(items.hits) for name, items in named.items()}
        | {
            "texts": found.num_texts,
            "classes": num_classes(measured.styles),
            "probe's training pictures": len(measured.train),
        },
        hits={name: items.by_concept()[0] for name, items in named.items()},
        sizes={name: items.by_concept()[1] for name, items in named.items()},
        curve_seconds=training_seconds(lines, [line["step"] for line in curve]),
        cpu_seconds=cpu_seconds,
    )


def training_seconds(lines: Sequence[dict[str, Any]], steps: Sequence[int]) -> tuple[float, ...]:
    """Seconds of training until each of `steps`, by linear interpolation; validation is left out."""
    logged = [(line["step"], line["seconds"]) for line in lines if line["kind"] == "step"]
    spent = [(line["step"], line["seconds"]) for line in lines if line["kind"] == "validation"]
    # A step is logged before the validation at that step.
    own = [seconds - sum(lost for at, lost in spent if at < step) for step, seconds in logged]
    found = np.interp(steps, [0, *(step for step, _ in logged)], [0.0, *own])
    return tuple(round(float(value), 2) for value in found)


def num_classes(pairs: Pairs) -> int:
    """Classes that the measured pictures have, of those to choose from."""
    names = sorted(set(pairs.column(_CLASS).astype(str).tolist()))
    return len(np.unique(class_numbers(pairs, _CLASS, names)))

"""Two models or more on the same pictures: figures, differences to the first, and where they differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from protoclip.contract.errors import DataError
from protoclip.sources import Pairs

from .bootstrap import Interval, bootstrap_mean
from .compared_arms import Arm, Embedded, EmbeddedArms, embed_arms
from .compared_probes import probe_figures
from .item_scores import Asked, ItemScores, Measured, measure_items, of_rows
from .paired import Estimate, Verdict, estimate, paired_difference, picture_difference, verdict, verdict_of


@dataclass(frozen=True)
class Difference:
    """To the first arm, higher is better.

    Attributes:
        mean: in the figure's unit, a share.
        pictures: interval of a bootstrap over the pictures' groups, of the mean over seeds where there are
            several.
        seeds: Student's interval over seeds; None where each arm has one model.
        verdict: by the seeds where there are several, else by the pictures.
    """

    mean: float
    pictures: Interval
    seeds: Estimate | None
    verdict: Verdict

    @property
    def interval(self) -> tuple[float, float]:
        """The one that the verdict is by."""
        if self.seeds is None or self.seeds.half_width is None:
            return self.pictures.low, self.pictures.high
        return self.seeds.mean - self.seeds.half_width, self.seeds.mean + self.seeds.half_width


@dataclass(frozen=True)
class ArmFigures:
    """One arm's row: its figures by name, each model's value, the mean with its interval, and the differences.

    Intervals are of 95 %: over the pictures' groups for one model, over seeds for several.
    """

    name: str
    sources: tuple[str, ...]
    values: Mapping[str, tuple[float, ...]]
    intervals: Mapping[str, Interval]
    differences: Mapping[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The whole comparison.

    Attributes:
        data: what was measured on, for people.
        num_images, num_texts, num_groups: of it.
        num_skipped: pictures that some model could not read.
        num_comparisons: differences that the intervals are corrected for.
        arms: the first is what the others are compared with.
    """

    data: str
    num_images: int
    num_texts: int
    num_groups: int
    num_skipped: int
    num_comparisons: int
    arms: tuple[ArmFigures, ...]


@dataclass(frozen=True)
class Compared:
    """The comparison, and what the page shows of the pictures: each arm's first model on them."""

    comparison: Comparison
    asked: Asked
    measured: tuple[Measured, ...]


def compare_arms(
    arms: Sequence[Arm],
    pairs: Pairs,
    data: str,
    *,
    group_column: str | None,
    class_columns: Sequence[str] = (),
    templates: str = "plain",
    train: Pairs | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Compared:
    """Measures all arms on the same pictures; those that some model can't read are left out for all, and counted.

    On the ranks of a launcher each embeds its share, and all measure; with `embed_arms` and `measure_arms` apart
    the first one can measure alone.

    Args:
        pairs: N rows.
        data: their name, for people.
        group_column: rows with the same value show the same thing; None: rows with the same label text.
        class_columns: zero-shot classification by these; each figure comes once more as mean per class.
        templates: set of templates of the class names.
        train: pairs that a linear probe and k-NN are fitted on for each class column; None: no probes.

    Raises:
        ConfigError: fewer than two arms, two of one name, numbers of models that don't pair, or probes without a
            class column.
        DataError: a column is missing, no picture can be read, or a probe can't be fitted.
        ModelError: a model can't be loaded, or its embeddings are not finite.
    """
    embedded = embed_arms(
        arms,
        pairs,
        group_column=group_column,
        class_columns=class_columns,
        templates=templates,
        train=train,
        batch_size=batch_size,
        progress=progress,
    )
    return measure_arms(embedded, data)


def measure_arms(found: EmbeddedArms, data: str) -> Compared:
    """The figures, differences and intervals of what `embed_arms` embedded; errors are those of `compare_arms`."""
    wanted, rows = found.asked, found.rows
    asked = wanted if len(rows) == len(wanted.pairs) else wanted.of_rows(rows, found.group_column)
    measured = [[_measured(found, one, asked, rows) for one in own] for own in found.embedded]
    figures = [[one.figures for one in own] for own in measured]
    comparison = Comparison(
        data=data,
        num_images=len(rows),
        num_texts=len(asked.labels.texts),
        num_groups=len(np.unique(asked.labels.groups)),
        num_skipped=len(wanted.pairs) - len(rows),
        num_comparisons=(len(found.arms) - 1) * len(figures[0][0]),
        arms=compare_figures(found.arms, figures),
    )
    return Compared(comparison, asked, tuple(own[0] for own in measured))


def _measured(found: EmbeddedArms, one: Embedded, asked: Asked, rows: NDArray[np.int64]) -> Measured:
    images = of_rows(one.images, rows)
    measured = measure_items(images, asked, one.texts)
    if found.train is None or one.train is None:
        return measured
    known = found.train_rows
    features = of_rows(one.train, known).vectors
    probed = probe_figures(asked, images.vectors, found.train.select(known), features, found.group_column)
    return replace(measured, figures={**measured.figures, **probed})


def compare_figures(
    arms: Sequence[Arm], measured: Sequence[Sequence[Mapping[str, ItemScores]]]
) -> tuple[ArmFigures, ...]:
    """The rows of the table from what every model scored on every item; see `Comparison`."""
    first = measured[0]
    names = list(first[0])
    num_comparisons = (len(arms) - 1) * len(names)
    rows = []
    for arm, own in zip(arms, measured, strict=True):
        differences = {}
        if own is not first:
            differences = {name: _difference(_of(own, name), _of(first, name), num_comparisons) for name in names}
        rows.append(
            ArmFigures(
                arm.name,
                arm.sources,
                {name: tuple(scores.mean for scores in _of(own, name)) for name in names},
                {name: _interval(_of(own, name)) for name in names},
                differences,
            )
        )
    return tuple(rows)


def _of(own: Sequence[Mapping[str, ItemScores]], name: str) -> list[ItemScores]:
    return [figures[name] for figures in own]


def _interval(scores: Sequence[ItemScores]) -> Interval:
    if len(scores) == 1:
        return bootstrap_mean(scores[0].values, scores[0].groups)
    found = estimate([one.mean for one in scores])
    assert found.half_width is not None
    return Interval(found.mean, found.mean - found.half_width, found.mean + found.half_width)


def _difference(own: Sequence[ItemScores], first: Sequence[ItemScores], num_comparisons: int) -> Difference:
    ours, theirs = (np.mean([one.values for one in scores], axis=0) for scores in (own, first))
    pictures = picture_difference(ours, theirs, own[0].groups, num_comparisons)
    if len(own) == 1:
        return Difference(pictures.mean, pictures, None, verdict_of(pictures.low, pictures.high))
    seeds = paired_difference([one.mean for one in own], [one.mean for one in first], num_comparisons)
    return Difference(seeds.mean, pictures, seeds, verdict(seeds))


def most_different(
    first: NDArray[np.int64], second: NDArray[np.int64], groups: NDArray[np.int64], count: int
) -> tuple[list[int], list[int]]:
    """Rows where the second model ranks the picture's own text better than the first by most, and where worse.

    By the ratio of ranks, so that from 1 to 10 counts as much as from 10 to 100; one row of each group at most;
    ties in the order of rows.

    Args:
        first, second: `[N]`, ranks, 0 is best.
        groups: `[N]`.
        count: rows at most, of each.

    Raises:
        DataError: different numbers of ranks.
    """
    if first.shape != second.shape:
        raise DataError(f"{first.shape} and {second.shape} ranks are not of the same pictures")
    gain = np.log2((first + 1.0) / (second + 1.0))
    return _best(gain, groups, count), _best(-gain, groups, count)


def _best(gain: NDArray[np.float64], groups: NDArray[np.int64], count: int) -> list[int]:
    order = np.argsort(-gain, kind="stable")
    chosen: dict[int, int] = {}
    for row in order[gain[order] > 0]:
        chosen.setdefault(int(groups[row]), int(row))
    return list(chosen.values())[:count]

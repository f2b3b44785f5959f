"""ProtoCLIP against plain CLIP: the committed study's numbers, with intervals over its seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from protoclip.contract.errors import DataError

COMPARISON_FILE = "comparison.json"
BASELINE = "plain CLIP"
_CONFIDENCE = 0.95

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Comparison(BaseModel):
    """The study as `benchmarks/recipe.py` wrote it: by variant and figure, a value in percent for each seed.

    Every variant has the same figures, in the order in which the report shows them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: str
    machine: str
    command: str
    steps: int = Field(gt=0)
    config_sha256: str
    seeds: tuple[int, ...] = Field(min_length=1)
    results: Mapping[str, Mapping[str, tuple[Percent, ...]]]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} name one twice")
        if not self.results.get(BASELINE) or len(self.results) < 2:
            raise ValueError(f"results need {BASELINE!r} and a variant to compare with it")
        for variant, figures in self.results.items():
            if list(figures) != list(self.results[BASELINE]):
                raise ValueError(f"results of {variant!r} hold other figures than those of {BASELINE!r}")
            for figure, values in figures.items():
                if len(values) != len(self.seeds):
                    raise ValueError(f"{variant!r}, {figure!r}: {len(values)} values for {len(self.seeds)} seeds")
        return self


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with the half-width of its 95 % interval; None for a single seed."""

    mean: float
    half_width: float | None

    @property
    def shows_difference(self) -> bool:
        """For a difference: whether the interval excludes 0."""
        return self.half_width is not None and abs(self.mean) > self.half_width


@dataclass(frozen=True)
class Row:
    """One variant: an estimate for every figure, and its difference to plain CLIP, paired by seed.

    Attributes:
        variant: its name.
        values: in the order of the figures.
        differences: in the same order; none for plain CLIP itself.
    """

    variant: str
    values: tuple[Estimate, ...]
    differences: tuple[Estimate, ...] | None


@dataclass(frozen=True)
class ComparisonTable:
    """The study, ready for the page."""

    study: Comparison
    figures: tuple[str, ...]
    rows: tuple[Row, ...]


def load_comparison(path: Path | None = None) -> Comparison | None:
    """Reads the study that ships with the package, or the one at `path`; None where there is no such file.

    Raises:
        DataError: the file can't be read, or is not such a study; names the field.
    """
    file = path if path is not None else Path(str(files("protoclip") / "demo" / COMPARISON_FILE))
    if not file.exists():
        return None
    try:
        return Comparison.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "file"
        raise DataError(f"{file}: {place}: {first['msg']}: write it again with benchmarks/recipe.py") from error
    except OSError as error:
        raise DataError(f"{file}: can't be read: {error}") from error


def compare(study: Comparison) -> ComparisonTable:
    """The study's table, variants in its order."""
    baseline = study.results[BASELINE]
    rows = []
    for variant, results in study.results.items():
        differences = None
        if variant != BASELINE:
            differences = tuple(paired_difference(results[figure], baseline[figure]) for figure in baseline)
        rows.append(Row(variant, tuple(estimate(results[figure]) for figure in baseline), differences))
    return ComparisonTable(study, tuple(baseline), tuple(rows))


def estimate(values: Sequence[float]) -> Estimate:
    """Mean ± t · s / √n over independent values, t of Student's distribution with n − 1 degrees at 95 %.

    Source: Student 1908, "The probable error of a mean". One value gives no interval.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError(f"{list(values)} must be finite numbers, at least one")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Estimate(mean, None)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Estimate(mean, _student_t(len(values) - 1) * math.sqrt(variance / len(values)))


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """The estimate of `values − baseline`, paired by seed: variance common to both cancels out.

    Raises:
        ValueError: different numbers of values, none, or one that is not finite.
    """
    return estimate([value - other for value, other in zip(values, baseline, strict=True)])


def _student_t(degrees: int) -> float:
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return float(stdtrit(degrees, (1 + _CONFIDENCE) / 2))

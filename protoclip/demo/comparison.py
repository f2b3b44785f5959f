"""ProtoCLIP against plain CLIP: the committed study's numbers, with intervals over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from protoclip.contract.errors import DataError
from protoclip.contract.first_fault import first_fault
from protoclip.evaluation.paired import Estimate, Verdict, estimate, paired_difference, verdict

COMPARISON_FILE = "comparison.json"
BASELINE = "plain CLIP"

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
class Difference:
    """A difference to plain CLIP, paired by seed, and what may be said about it."""

    estimate: Estimate
    verdict: Verdict

    @classmethod
    def of(cls, values: Sequence[float], baseline: Sequence[float], num_comparisons: int) -> Difference:
        found = paired_difference(values, baseline, num_comparisons)
        return cls(found, verdict(found))


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
    differences: tuple[Difference, ...] | None


@dataclass(frozen=True)
class ComparisonTable:
    """The study, ready for the page."""

    study: Comparison
    figures: tuple[str, ...]
    rows: tuple[Row, ...]
    num_comparisons: int


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
        raise DataError(f"{file}: {first_fault(error)}: write it again with benchmarks/recipe.py") from error
    except OSError as error:
        raise DataError(f"{file}: can't be read: {error}") from error


def compare(study: Comparison) -> ComparisonTable:
    """The study's table, variants in its order; differences are corrected for their number in the table."""
    baseline = study.results[BASELINE]
    num_comparisons = (len(study.results) - 1) * len(baseline)
    rows = []
    for variant, results in study.results.items():
        differences = None
        if variant != BASELINE:
            pairs = ((results[figure], baseline[figure]) for figure in baseline)
            differences = tuple(Difference.of(*pair, num_comparisons) for pair in pairs)
        rows.append(Row(variant, tuple(estimate(results[figure]) for figure in baseline), differences))
    return ComparisonTable(study, tuple(baseline), tuple(rows), num_comparisons)


def markdown_table(study: Comparison) -> str:
    """The table in Markdown: a row a variant, and below it the difference to plain CLIP with its verdict."""
    found = compare(study)
    lines = ["| variant | " + " | ".join(found.figures) + " |", "|---" * (len(found.figures) + 1) + "|"]
    for row in found.rows:
        lines.append(f"| {row.variant} | " + " | ".join(map(_interval, row.values)) + " |")
        if row.differences is not None:
            cells = (f"{_interval(found.estimate, '+')}: {found.verdict}" for found in row.differences)
            lines.append("| – against plain CLIP | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _interval(found: Estimate, sign: str = "") -> str:
    """`mean ± half width`, or the value alone where there is one."""
    spread = "" if found.half_width is None else f" ± {found.half_width:.1f}"
    return f"{format(round(found.mean, 1) + 0.0, sign + '.1f')}{spread}".replace("-", "−")

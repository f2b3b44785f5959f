"""The study's results as JSON, a page and a chart; no number on the page is typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from evidence_arms import BASELINE
from evidence_measures import MEASURES, Measured
from pydantic import BaseModel, ConfigDict

from protoclip.contract.files import write_text
from protoclip.evaluation.paired import CONFIDENCE, Estimate, estimate, paired_difference, verdict
from protoclip.reports.charts import Frame, Line, line_chart

FEWEST_SEEDS = 6
_CORPORA = {
    "icons": ("icons", "no teacher, no word vectors"),
    "bundled": ("the bundled emoji", "word vectors in every arm"),
}
_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e")


class Study(BaseModel):
    """What was run: by arm and seed. Seeds that an arm lacks were not finished."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    part: str
    date: str
    machine: str
    command: str
    model: str
    steps: int
    pairs_seen: int
    episode: int
    prototypes: int
    planned_seeds: list[int]
    runs: Mapping[str, Mapping[int, Measured]]
    corpus: Literal["icons", "bundled"] = "icons"
    digests: dict[str, str] = {}

    @property
    def seeds(self) -> list[int]:
        """Those that all arms have finished, in the planned order, up to the first that one lacks."""
        complete: list[int] = []
        for seed in self.planned_seeds:
            if not all(seed in runs for runs in self.runs.values()):
                break
            complete.append(seed)
        return complete

    def values(self, arm: str, measure: str) -> list[float]:
        """In the order of `seeds`."""
        return [self.runs[arm][seed].values[measure] for seed in self.seeds]

    @property
    def num_comparisons(self) -> int:
        """Of this table, and never fewer than the family of the main comparison: its measures on two corpora."""
        return max(2, len(self.runs) - 1) * len(MEASURES)


def write_study(study: Study, result: Path) -> None:
    """Writes `result`.json, .md and .svg; the last two where a seed is complete."""
    result.parent.mkdir(parents=True, exist_ok=True)
    write_text(result.with_suffix(".json"), study.model_dump_json(indent=1) + "\n")
    if study.seeds:
        write_text(result.with_suffix(".svg"), chart(study))
        write_text(result.with_suffix(".md"), page(study, result.stem))


def page(study: Study, stem: str) -> str:
    """The page in Markdown."""
    return (
        "\n".join([*_head(study), *_values(study), *_differences(study), *_ends(study), *_targets(study, stem)])
        + "\n"
    )


def _head(study: Study) -> list[str]:
    seeds, counts = study.seeds, next(iter(study.runs[BASELINE].values())).counts
    left = len(study.planned_seeds) - len(seeds)
    is_pilot = len(seeds) < FEWEST_SEEDS
    which = f"Seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    lines = [
        f"# {'Pilot' if is_pilot else 'Study'}: prototypes on {_CORPORA[study.corpus][0]}, {study.part}",
        f"`{study.command}` ({study.date}; {study.machine}), by the [protocol](protocol.md). Made by",
        f"script from the JSON file beside this page. {which}, which all arms finished"
        + (f"; planned and not finished: {left}." if left else "."),
    ]
    if is_pilot:
        lines += [
            "",
            f"**A pilot**: fewer than {FEWEST_SEEDS} seeds can show next to nothing after the correction, and",
            "support no claim. No test cell was looked at.",
        ]
    return [
        *lines,
        "",
        f"{study.model}; {study.steps} steps of 256 ({study.pairs_seen:,} pairs), an episode of at most",
        f"{study.episode:,}, {study.prototypes:,} prototypes a side, {_CORPORA[study.corpus][1]}.",
        "",
        f"- Recall: {counts[MEASURES[0]]:,} pictures among {counts['texts']:,} texts; by chance",
        f"  {100 / counts['texts']:.2f} at 1 and {500 / counts['texts']:.2f} at 5.",
        f"- Classes: {counts[MEASURES[2]]:,} pictures of {counts['classes']} classes, each picture",
        f"  {100 / counts[MEASURES[2]]:.2f} points; the probe on {counts[_PROBED]:,} training pictures.",
    ]


_PROBED = "probe's training pictures"


def _values(study: Study) -> list[str]:
    lines = [
        "",
        "## Each run",
        "In percent, a value for each seed.",
        "",
        _row(["arm", *MEASURES]),
        _rule(len(MEASURES) + 1),
    ]
    for arm in study.runs:
        lines.append(_row([arm, *(", ".join(f"{v:.1f}" for v in study.values(arm, m)) for m in MEASURES)]))
    return lines


def _differences(study: Study) -> list[str]:
    count = study.num_comparisons
    level = 100 * (1 - (1 - CONFIDENCE) / count)
    lines = [
        "",
        "## Against plain CLIP",
        f"Difference by seed, mean ± half the interval of {level:.2f} %: Bonferroni over the {count} comparisons",
        "of this table (`protoclip.evaluation.paired`). *Better* or *worse* only where the interval excludes 0.",
        "",
        _row(["arm", *MEASURES]),
        _rule(len(MEASURES) + 1),
    ]
    for arm in study.runs:
        if arm != BASELINE:
            cells = [_compared(study.values(arm, m), study.values(BASELINE, m), count) for m in MEASURES]
            lines.append(_row([arm, *cells]))
    return lines


def _ends(study: Study) -> list[str]:
    if len(study.seeds) < 2:
        return []
    lines = ["", "## What the intervals leave", "Their ends: what lies outside does not fit these seeds.", ""]
    lines += [_row(["arm", *MEASURES]), _rule(len(MEASURES) + 1)]
    for arm in study.runs:
        if arm != BASELINE:
            cells = [_span(study, arm, measure) for measure in MEASURES]
            lines.append(_row([arm, *cells]))
    return lines


def _span(study: Study, arm: str, measure: str) -> str:
    values, baseline = study.values(arm, measure), study.values(BASELINE, measure)
    found = paired_difference(values, baseline, study.num_comparisons)
    if found.half_width is None:
        return "–"
    low, high = (round(found.mean + sign * found.half_width, 1) + 0.0 for sign in (-1, 1))
    return f"{low:+.1f} to {high:+.1f}".replace("-", "−")


def _compared(values: Sequence[float], baseline: Sequence[float], num_comparisons: int) -> str:
    found = paired_difference(values, baseline, num_comparisons)
    return f"{interval(found)}: {verdict(found)}"


def _targets(study: Study, stem: str) -> list[str]:
    lines = [
        "",
        "## How fresh the targets were",
        "",
        _row(["arm", "clusterings", "stability of image labels (NMI)"]),
        _rule(3),
    ]
    for arm in study.runs:
        runs = [study.runs[arm][seed] for seed in study.seeds]
        known = [value for run in runs for _, value in run.stability if value is not None]
        lines.append(_row([arm, str(runs[0].clusterings), f"{sum(known) / len(known):.2f}" if known else "–"]))
    curve = f"![Recall at 5 of unseen concepts by step]({stem}.svg)"
    return [
        *lines,
        "",
        "With a refresh in steps many features are the same ones in two clusterings: its stability is higher by",
        "construction.",
        "",
        "## Learning curves",
        "Recall at 5 on up to 2,000 pictures of held-out concepts, mean of the seeds; colours as listed: "
        + "; ".join(f"{arm} `{_COLOURS[number]}`" for number, arm in enumerate(study.runs))
        + ".",
        "",
        curve,
    ]


def chart(study: Study) -> str:
    """Mean recall at 5 by step, an SVG with its own colours."""
    lines = []
    for number, (arm, runs) in enumerate(study.runs.items()):
        curves = [runs[seed].curve for seed in study.seeds]
        steps = [step for step, _, _ in curves[0]]
        means = [estimate([curve[place][2] for curve in curves]).mean for place in range(len(steps))]
        lines.append(Line(arm, number, steps, means))
    svg = str(line_chart(lines, Frame(640, 320, "step", "R@5, %")))
    colours = "".join(f".c{number}{{stroke:{colour}}}" for number, colour in enumerate(_COLOURS))
    style = (
        "<style>text{font:11px sans-serif;fill:#777}.grid,.mark{stroke:#bbb}"
        f".line{{fill:none;stroke-width:2}}{colours}</style>"
    )
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f">{style}", 1) + "\n"


def interval(found: Estimate) -> str:
    """`+1.2 ± 0.8`, or the value alone where there is one seed."""
    spread = "" if found.half_width is None else f" ± {found.half_width:.1f}"
    return f"{round(found.mean, 1) + 0.0:+.1f}{spread}".replace("-", "−")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(count: int) -> str:
    return "|---" * count + "|"

"""The study's results as JSON, a page and a chart; no number on the page is typed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evidence_arms import BASELINE
from evidence_measures import MEASURES
from evidence_sections import concepts, equal_quality, equal_time
from evidence_study import Study
from evidence_tables import ends, interval, row, rule

from protoclip.contract.files import write_text
from protoclip.evaluation.paired import estimate, paired_difference, verdict
from protoclip.reports.charts import Frame, Line, line_chart

FEWEST_SEEDS = 6
_CORPORA = {
    "icons": ("icons", "no teacher, no word vectors"),
    "bundled": ("the bundled emoji", "word vectors in every arm"),
}
_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e")


def write_study(study: Study, result: Path) -> None:
    """Writes `result`.json, .md and .svg; the last two where a seed is complete."""
    study = study.with_concepts()
    result.parent.mkdir(parents=True, exist_ok=True)
    write_text(result.with_suffix(".json"), study.model_dump_json(indent=1) + "\n")
    if study.seeds:
        if study.has_curves:
            write_text(result.with_suffix(".svg"), chart(study))
        write_text(result.with_suffix(".md"), page(study, result.stem))


def page(study: Study, stem: str) -> str:
    """The page in Markdown."""
    sections = (_head, _values, _differences, _ends, concepts, _targets, equal_quality, equal_time)
    lines = [line for section in sections for line in section(study)]
    return "\n".join([*lines, *_curves(study, stem)]) + "\n"


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
            "support no claim." + " No test cell was looked at." * (study.part != "test cells"),
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
        row(["arm", *MEASURES]),
        rule(len(MEASURES) + 1),
    ]
    for arm in study.runs:
        lines.append(row([arm, *(", ".join(f"{v:.1f}" for v in study.values(arm, m)) for m in MEASURES)]))
    return lines


def _differences(study: Study) -> list[str]:
    count, level = study.num_comparisons, f"{100 * study.level:.2f} %"
    lines = [
        "",
        "## Against plain CLIP",
        f"Difference by seed, mean ± half the interval of {level}: Bonferroni over the {count} comparisons",
        "of this table (`protoclip.evaluation.paired`). *Better* or *worse* only where the interval excludes 0.",
        "",
        row(["arm", *MEASURES]),
        rule(len(MEASURES) + 1),
    ]
    for arm in study.compared:
        cells = [_compared(study.values(arm, m), study.values(BASELINE, m), count) for m in MEASURES]
        lines.append(row([arm, *cells]))
    return lines


def _ends(study: Study) -> list[str]:
    if len(study.seeds) < 2:
        return []
    lines = ["", "## What the intervals leave", "Their ends: what lies outside does not fit these seeds.", ""]
    lines += [row(["arm", *MEASURES]), rule(len(MEASURES) + 1)]
    for arm in study.compared:
        lines.append(row([arm, *(_span(study, arm, measure) for measure in MEASURES)]))
    return lines


def _span(study: Study, arm: str, measure: str) -> str:
    values, baseline = study.values(arm, measure), study.values(BASELINE, measure)
    found = paired_difference(values, baseline, study.num_comparisons)
    if found.half_width is None:
        return "–"
    return ends(found.mean - found.half_width, found.mean + found.half_width)


def _compared(values: Sequence[float], baseline: Sequence[float], num_comparisons: int) -> str:
    found = paired_difference(values, baseline, num_comparisons)
    return f"{interval(found)}: {verdict(found)}"


def _targets(study: Study) -> list[str]:
    lines = [
        "",
        "## How fresh the targets were",
        "",
        row(["arm", "clusterings", "stability of image labels (NMI)"]),
        rule(3),
    ]
    for arm in study.runs:
        runs = study.of_seeds(arm)
        known = [value for run in runs for _, value in run.stability if value is not None]
        lines.append(row([arm, str(runs[0].clusterings), f"{sum(known) / len(known):.2f}" if known else "–"]))
    return [
        *lines,
        "",
        "With a refresh in steps many features are the same ones in two clusterings: its stability is higher by",
        "construction.",
    ]


def _curves(study: Study, stem: str) -> list[str]:
    if not study.has_curves:
        return []
    colours = "; ".join(f"{arm} `{_COLOURS[number]}`" for number, arm in enumerate(_charted(study)))
    return [
        "",
        "## Learning curves",
        "Recall at 5 on up to 2,000 pictures of held-out concepts, mean of the seeds; colours as listed: "
        f"{colours}.",
        "",
        f"![Recall at 5 of unseen concepts by step]({stem}.svg)",
    ]


def _charted(study: Study) -> list[str]:
    """As many arms as there are colours; the rest has its numbers in the tables."""
    return [BASELINE, *study.compared][: len(_COLOURS)]


def chart(study: Study) -> str:
    """Mean recall at 5 by step, an SVG with its own colours."""
    lines = []
    for number, arm in enumerate(_charted(study)):
        curves = [run.curve for run in study.of_seeds(arm)]
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

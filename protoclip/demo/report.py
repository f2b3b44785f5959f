"""The demo's report: one HTML file with everything in it, pictures and curves included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import DataError
from protoclip.contract.files import write_text
from protoclip.contract.pixels import PictureError
from protoclip.evaluation.scores import Classification, Evaluation, Subset
from protoclip.evaluation.table import percent
from protoclip.reports.pages import render_page
from protoclip.reports.thumbnails import data_uri
from protoclip.runs.files import PROTOTYPES_FILE, load_run_config, prototype_labels
from protoclip.runs.metrics import read_metrics
from protoclip.sources import Pairs

from .cluster_sheets import ClusterSheet, choose_clusters, distinct
from .comparison import ComparisonTable
from .curves import loss_figure, small_figures
from .joint_space import Views
from .report_contents import ClassificationPanel, Fact, Latency, SearchPanel, Timing

_NO_VIEWS = Views()


def write_report(
    run: Path,
    *,
    evaluation: Evaluation,
    pairs: Pairs,
    searches: Sequence[SearchPanel],
    classifications: Sequence[ClassificationPanel],
    latencies: Sequence[Latency],
    timings: Sequence[Timing],
    out: Path,
    facts: Sequence[Fact] = (),
    views: Views = _NO_VIEWS,
    comparison: ComparisonTable | None = None,
) -> None:
    """Writes the report; a part without content is left out.

    Args:
        run: the run folder: configuration, metrics and prototypes come from it.
        evaluation: of that run.
        pairs: the training pairs, in the order in which they were trained on.
        searches: queries and their hits.
        classifications: zero-shot examples.
        latencies: of the server.
        timings: of the demo's parts, in order.
        out: the HTML file; replaced if it is there.
        facts: more lines for "How it was made".
        views: of the joint space.
        comparison: the study of ProtoCLIP against plain CLIP, which is not about this run.

    Raises:
        DataError: `pairs` are not those the run's prototypes were made from, or a picture that is to be
            shown can't be read, or there are no metrics.
        ModelError: `run` is not a run folder, or its prototypes are damaged.
        ProtoclipError: `out` can't be written.
    """
    metrics = read_metrics(run)
    config = load_run_config(run)
    context = {
        "evaluation": evaluation,
        "columns": _by_column(evaluation),
        "tiles": list(_tiles(evaluation, latencies, timings)),
        "searches": searches,
        "classifications": classifications,
        "space": views.space,
        "neighbours": views.neighbours,
        "mistakes": views.mistakes,
        "comparison": comparison,
        "sheets": _sheets(run, pairs, config.data.group_column, evaluation),
        "loss": loss_figure(metrics),
        "figures": small_figures(metrics),
        "latencies": latencies,
        "timings": timings,
        "facts": [*facts, *_sizes(run)],
        "weights": config.model.weights,
        "config": config.model_dump_json(indent=2, exclude_none=True),
    }
    write_text(out, _render(context))


def _tiles(
    evaluation: Evaluation, latencies: Sequence[Latency], timings: Sequence[Timing]
) -> Iterator[tuple[str, str]]:
    name, subset = _headline_subset(evaluation)
    for k in (1, 5):
        yield percent(subset.retrieval.image_to_text[k]) + " %", f"right text {_first(k)}, {spoken(name)}"
    for column, scores in list(subset.classification.items())[:1]:
        if scores.linear_probe is not None:
            yield percent(scores.linear_probe) + " %", f"linear probe by {column}, {spoken(name)}"
    for latency in latencies[:1]:
        yield f"{latency.p50_ms:.1f} ms", f"median latency, {latency.name}"
    if timings:
        yield duration(sum(timing.seconds for timing in timings)), "the whole way"


def _first(k: int) -> str:
    return "first" if k == 1 else f"among the first {k}"


def _by_column(evaluation: Evaluation) -> dict[str, dict[str, Classification]]:
    """The subsets' classifications by class column; a subset without a class there is left out."""
    return {
        column: {
            name: subset.classification[column]
            for name, subset in evaluation.subsets.items()
            if column in subset.classification
        }
        for column in evaluation.probes
    }


def _headline_subset(evaluation: Evaluation) -> tuple[str, Subset]:
    """The first subset that was not trained on, or the first: probes have no score on their training data."""
    for name, subset in evaluation.subsets.items():
        if any(scores.linear_probe is not None for scores in subset.classification.values()):
            return name, subset
    return next(iter(evaluation.subsets.items()))


def _sheets(
    run: Path, pairs: Pairs, group_column: str | None, evaluation: Evaluation
) -> dict[str, list[dict[str, Any]]]:
    if not (run / PROTOTYPES_FILE).is_file():
        return {}
    own = np.array([texts[0] for texts in pairs.texts], dtype=object)
    groups = own if group_column is None else pairs.column(group_column)
    columns = list(evaluation.probes)
    classes = pairs.column(columns[0]) if columns else groups
    return {side: list(_side(run, side, pairs, classes, groups)) for side in ("image", "text")}


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


def _sizes(run: Path) -> Iterator[Fact]:
    from safetensors import safe_open

    for file in sorted(run.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as tensors:
            count = sum(int(np.prod(tensors.get_slice(name).get_shape())) for name in tensors.keys())  # noqa: SIM118
        yield Fact(file.name, f"{count:,} numbers, {file.stat().st_size / 1e6:.1f} MB")


def _render(context: Mapping[str, Any]) -> str:
    filters: dict[str, Callable[..., Any]] = {
        "percent": percent,
        "spoken": spoken,
        "duration": duration,
        "cosine": cosine,
        "signed": signed,
        "data_uri": _shown,
    }
    return render_page("protoclip.demo", "report.html.j2", context, filters)


def _shown(picture: bytes) -> str:
    try:
        return data_uri(picture)
    except PictureError as error:
        raise DataError(f"a picture of the report can't be read: {error}") from error


def cosine(value: float) -> str:
    """`-0.174` → `−0.17`; never `−0.00`."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def signed(value: float) -> str:
    """`2.23` → `+2.2`; `-0.01` → `+0.0`."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def spoken(name: str) -> str:
    """`unseen_style` → `unseen style`."""
    return name.replace("_", " ")


def duration(seconds: float) -> str:
    """`4.2` → `4.2 s`; `272` → `4 min 32 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"

"""The demo's report: one HTML file with everything in it, pictures and curves included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from protoclip.contract.files import write_text
from protoclip.evaluation.scores import Evaluation
from protoclip.reports.pages import render_page
from protoclip.run_report.contents import Fact, Timing
from protoclip.run_report.curves import loss_figure, small_figures
from protoclip.run_report.filters import FILTERS, duration
from protoclip.run_report.sections import by_column, cluster_panels, score_tiles, tensor_facts
from protoclip.run_report.views import Views
from protoclip.runs.files import load_run_config
from protoclip.runs.metrics import read_metrics
from protoclip.sources import Pairs

from .comparison import ComparisonTable
from .report_contents import ClassificationPanel, Latency, SearchPanel

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
        "num_dimensions": evaluation.embedding_dim,
        "columns": by_column(evaluation),
        "tiles": list(_tiles(evaluation, latencies, timings)),
        "searches": searches,
        "classifications": classifications,
        "views": views,
        "space": views.space,
        "neighbours": views.neighbours,
        "mistakes": views.mistakes,
        "comparison": comparison,
        "sheets": cluster_panels(run, pairs, config.data.group_column, next(iter(evaluation.probes), None)),
        "loss": loss_figure(metrics),
        "validation": None,
        "figures": small_figures(metrics),
        "latencies": latencies,
        "timings": timings,
        "facts": [*facts, *tensor_facts(run)],
        "weights": config.model.weights,
        "config": config.model_dump_json(indent=2, exclude_none=True),
    }
    write_text(
        out, render_page("protoclip.demo", "report.html.j2", context, FILTERS, also=("protoclip.run_report",))
    )


def _tiles(
    evaluation: Evaluation, latencies: Sequence[Latency], timings: Sequence[Timing]
) -> Iterator[tuple[str, str]]:
    yield from score_tiles(evaluation)
    for latency in latencies[:1]:
        yield f"{latency.p50_ms:.1f} ms", f"median latency, {latency.name}"
    if timings:
        yield duration(sum(timing.seconds for timing in timings)), "the whole way"

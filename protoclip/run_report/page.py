"""`protoclip report`: one HTML file about a run, finished or not, with everything in it."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError, DataError, ModelError, ProtoclipError
from protoclip.contract.files import write_text
from protoclip.encoders.model import WEIGHTS_FILE
from protoclip.evaluation.features import CPU
from protoclip.evaluation.scores import EVALUATION_FILE, Evaluation, load_evaluation
from protoclip.reports.pages import render_page
from protoclip.runs.files import load_run_config
from protoclip.runs.metrics import METRICS_FILE, read_metrics
from protoclip.runs.places import Weights, find_weights

from .contents import Fact
from .curves import Metrics, loss_figure, small_figures, validation_figure
from .filters import FILTERS, duration, spoken
from .sample import Sample, embed_sample, measure_sample
from .sections import by_column, cluster_panels, score_tiles, tensor_facts
from .views import Views, make_views

logger = logging.getLogger(__name__)

REPORT_FILE = "report.html"
NUM_PICTURES = 2000
_OURS = "Written by protoclip report."


_NO_VIEWS = Views()


@dataclass(frozen=True)
class Seen:
    """What the page shows of the model's weights and of the data, and what kept it from showing more.

    Attributes:
        evaluation: read, or measured on a sample; None without weights or data.
        is_sample: it was measured on the sample, for the page alone.
        views: of the joint space.
        sheets: clusters, by side.
        missing: why parts are missing, one line each.
    """

    evaluation: Evaluation | None = None
    is_sample: bool = False
    views: Views = _NO_VIEWS
    sheets: dict[str, list[dict[str, Any]]] | None = None
    missing: tuple[str, ...] = ()


def write_run_report(
    run: Path,
    out: Path | None = None,
    *,
    num_pictures: int = NUM_PICTURES,
    device: torch.device = CPU,
    progress: Progress | None = None,
) -> Path:
    """Writes the page of a run and returns where it lies.

    What can't be shown, because data or weights are missing, is left out, and the page says why. Scores are
    those of `evaluation.json` where `protoclip evaluate` has written one, else retrieval on the sample.

    Args:
        run: folder that training wrote, finished or not.
        out: the HTML file; None: `report.html` in the run.
        num_pictures: pictures to embed at most, for map, neighbours, mistakes and scores; 0: none.
        device: of the model.

    Raises:
        ConfigError: `out` holds a page that is not of this kind, such as the demo's.
        ModelError: `run` is no run folder.
        ProtoclipError: `out` can't be written.
    """
    path = out if out is not None else run / REPORT_FILE
    check_overwritten(path)
    config = load_run_config(run)
    seen = look(run, config, num_pictures, device=device, progress=progress)
    write_text(path, render_run(run, config, seen))
    return path


def check_overwritten(path: Path) -> None:
    """Refuses to replace a file that `write_run_report` did not write.

    Raises:
        ConfigError: it is there, and another's.
    """
    if path.exists() and not (path.is_file() and _OURS in path.read_text(encoding="utf-8", errors="replace")):
        raise ConfigError(f"{path}: is there, and no page of `protoclip report`: name another file with --out")


def look(
    run: Path,
    config: RunConfig,
    num_pictures: int,
    *,
    device: torch.device = CPU,
    keep_features: bool = True,
    progress: Progress | None = None,
) -> Seen:
    """Reads data and weights, as far as they are there, and embeds the sample."""
    evaluation, missing = _kept_evaluation(run)
    if not num_pictures:
        return Seen(evaluation, missing=(*missing, "no pictures were asked for"))
    try:
        weights = find_weights(run) or Weights(run, run)
        sample = embed_sample(
            weights, config, num_pictures, device=device, keep_features=keep_features, progress=progress
        )
    except (DataError, ModelError, ConfigError) as error:
        return Seen(evaluation, missing=(*missing, f"pictures, map and clusters are missing: {error}"))
    if weights.step is not None:
        missing = (
            *missing,
            f"the run is not finished: pictures and map are of the checkpoint of step {weights.step}",
        )
    is_sample = evaluation is None
    views, sheets, failures = _shown(run, config, sample)
    measured = evaluation or measure_sample(sample, config)
    return Seen(measured, is_sample, views, sheets, (*missing, *failures))


def _kept_evaluation(run: Path) -> tuple[Evaluation | None, tuple[str, ...]]:
    path, weights = run / EVALUATION_FILE, run / WEIGHTS_FILE
    if not path.is_file():
        return None, ()
    try:
        evaluation = load_evaluation(path)
    except ModelError as error:
        return None, (f"its scores are left out: {error}",)
    if weights.is_file() and path.stat().st_mtime < weights.stat().st_mtime:
        return evaluation, (f"{EVALUATION_FILE} is older than the weights: `protoclip evaluate` measures them",)
    return evaluation, ()


def _shown(
    run: Path, config: RunConfig, sample: Sample
) -> tuple[Views, dict[str, list[dict[str, Any]]], list[str]]:
    failures: list[str] = []
    columns = config.evaluation.class_columns
    views, sheets = Views(), {}
    everything = np.ones(len(sample.embedded), dtype=bool)
    try:
        names = _names(sample)
        views = make_views(sample.embedded, everything, everything, class_columns=columns, names=names)
    except (DataError, ValueError) as error:
        failures.append(f"map, neighbours and mistakes are missing: {error}")
    try:
        sheets = cluster_panels(run, sample.train, config.data.group_column, next(iter(columns), None))
    except ProtoclipError as error:
        failures.append(f"clusters are missing: {error}")
    return views, sheets, failures


def _names(sample: Sample) -> tuple[str, str, str]:
    kind = "training pairs" if sample.trained_on else f"part “{spoken(sample.subset)}”, which was not trained on"
    count, size = len(sample.embedded), sample.size
    some = f"{count:,} of the {size:,} pictures" if count < size else f"The {count:,} pictures"
    return f"{some} of the {kind}", f"Pictures of the {kind}", "these"


def render_run(run: Path, config: RunConfig, seen: Seen, *, refresh_s: int | None = None) -> str:
    """The page as text; the curves are read anew.

    Args:
        refresh_s: a browser is told to load it again after so many seconds; None: never.
    """
    metrics = read_metrics(run) if (run / METRICS_FILE).is_file() else []
    evaluation = seen.evaluation
    context = {
        "name": run.resolve().name,
        "weights": config.model.weights,
        "model_name": config.model.name,
        "refresh_s": refresh_s,
        "finished": (run / WEIGHTS_FILE).is_file(),
        "evaluation": evaluation,
        "is_sample": seen.is_sample,
        "columns": by_column(evaluation) if evaluation else {},
        "tiles": [*_run_tiles(config, metrics), *(score_tiles(evaluation) if evaluation else ())],
        "num_dimensions": evaluation.embedding_dim if evaluation else None,
        "views": seen.views,
        "space": seen.views.space,
        "neighbours": seen.views.neighbours,
        "mistakes": seen.views.mistakes,
        "sheets": seen.sheets,
        "loss": loss_figure(metrics),
        "validation": validation_figure(metrics),
        "figures": small_figures(metrics),
        "missing": seen.missing,
        "timings": (),
        "latencies": (),
        "facts": [*_facts(config), *tensor_facts(run)],
        "config": config.model_dump_json(indent=2, exclude_none=True),
        "written_by": _OURS,
    }
    return render_page("protoclip.run_report", "run.html.j2", context, FILTERS)


def _run_tiles(config: RunConfig, metrics: Metrics) -> Iterator[tuple[str, str]]:
    steps = [line for line in metrics if line["kind"] == "step"]
    validated = [line["mean_recall"] for line in metrics if line["kind"] == "validation"]
    if steps:
        last = steps[-1]
        planned = "" if config.train.steps is None else f"of {config.train.steps:,} "
        yield f"{last['step']:,}", f"{planned}steps, {last['pass']:.1f} passes over the data"
        yield f"{last['loss']:.2f}", f"loss, in the stage {last['stage']}"
        yield duration(last["seconds"]), "of training"
    if validated:
        yield f"{100 * max(validated):.1f} %", "best mean recall on the validation pairs"


def _facts(config: RunConfig) -> Iterator[Fact]:
    yield Fact("Data", ", ".join(config.data.path))
    yield Fact("Seed", str(config.train.seed))
    yield Fact(
        "Page written", f"{datetime.now(UTC).isoformat(timespec='seconds')}, Python {platform.python_version()}"
    )

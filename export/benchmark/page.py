"""A benchmark as an HTML page: the choice, a plot for each encoder, and the table."""

from __future__ import annotations

from protoclip.reports.pages import render_page

from .chart import make_plot
from .run import Benchmark
from .save import next_command


def benchmark_page(found: Benchmark) -> str:
    """The benchmark as one self-contained HTML file."""
    names = [candidate.name for candidate in found.candidates]
    plots = []
    for encoder in found.settings.encoders:
        cells = [cell for cell in found.cells if cell.encoder == encoder]
        if cells:
            plots.append(make_plot(encoder, cells, names, found.settings.max_latency_ms))
    command = None if found.choice is None else next_command(found.artifact, found.choice)
    context = {"found": found, "plots": plots, "command": command}
    return render_page("export", "benchmark.html.j2", context, {"megabytes": _megabytes})


def _megabytes(value: int | None) -> str:
    return "–" if value is None else f"{value / 1e6:.1f}"

"""What `protoclip benchmark` prints and writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from protoclip.cli.app import console
from protoclip.reports.tables import narrow_table

if TYPE_CHECKING:
    from export.benchmark.results import CandidateResult, Cell
    from export.benchmark.run import Benchmark

_NUMBERS = ("batch", "items/s", "×\nfirst", "p50\nms", "p99\nms", "memory\nMB", "size\nMB")


def print_benchmark(found: Benchmark, html: Path | None, save: bool, as_json: bool) -> None:
    """The table or JSON, the page, the manifest, and finally the next command.

    Raises:
        ModelError, ProtoclipError: the manifest or the page can't be written.
        VerdictError: no engine can be chosen.
    """
    from export.benchmark.page import benchmark_page
    from export.benchmark.save import next_command, require_choice, save_speeds
    from protoclip.contract.files import write_text

    if as_json:
        typer.echo(found.to_json(), nl=False)
    else:
        _print_table(found)
    if html is not None:
        write_text(html, benchmark_page(found))
        console.print(f"wrote {html}", highlight=False)
    choice = require_choice(found)
    if save:
        saved = save_speeds(Path(found.artifact), found)
        console.print(
            f"saved the speeds at batch {saved.batch}; {saved.default_engine} is served from now on",
            highlight=False,
        )
    limit = found.settings.max_latency_ms
    why = (
        "the fastest that passed its gate, of lower precision only where 1.3 times as fast"
        if limit is None
        else f"the fastest within {limit:g} ms"
    )
    console.print(
        f"{why}: {choice.engine} at batch {choice.batch}, {choice.items_per_s:.0f} items/s; "
        f"next: [bold]{escape(next_command(found.artifact, choice))}[/]",
        highlight=False,
    )


def _print_table(found: Benchmark) -> None:
    output, settings = Console(highlight=False), found.settings
    threads = f"{settings.threads} thread{'' if settings.threads == 1 else 's'} for every candidate"
    output.print(
        f"{found.name} on {found.processor}, {threads}, median of {settings.rounds} interleaved rounds, "
        f"{settings.seconds:g} s a cell; the {' and the '.join(settings.encoders)} encoder",
        soft_wrap=True,
    )
    output.print(_table(found))
    if found.reference is not None:
        output.print(f"accuracies without * are the manifest's; * on {found.samples} against {found.reference}")
    for candidate in found.candidates:
        if candidate.accuracy is not None:
            for failure in candidate.accuracy.failures:
                output.print(f"[bold red]{candidate.name}[/]: {escape(failure)}", soft_wrap=True)
    for missing in found.missing:
        output.print(f"not run: {missing.name}: {escape(missing.reason)}", style="dim", soft_wrap=True)


def _table(found: Benchmark) -> Table:
    caption = (
        "× first: against the first candidate; † fewer than 30 calls: the slowest of them; "
        "memory: peak of both encoders"
    )
    encoders = ("encoder",) if len(found.settings.encoders) > 1 else ()
    table = narrow_table(
        ("candidate", "accuracy", *encoders, *_NUMBERS), caption=caption, texts=("accuracy", *encoders)
    )
    first = {
        (cell.encoder, cell.batch): cell.items_per_s
        for cell in found.cells
        if cell.candidate == found.candidates[0].name
    }
    for candidate in found.candidates:
        cells = [cell for cell in found.cells if cell.candidate == candidate.name]
        for place, cell in enumerate(cells):
            chosen = found.choice is not None and (cell.candidate, cell.batch) == (
                found.choice.candidate,
                found.choice.batch,
            )
            table.add_row(
                candidate.name if place == 0 else "",
                accuracy_text(candidate) if place == 0 else "",
                *([cell.encoder] if encoders else []),
                *_numbers(cell, first.get((cell.encoder, cell.batch))),
                f"{candidate.num_bytes / 1e6:.1f}" if place == 0 else "",
                style="bold" if chosen else None,
                end_section=place == len(cells) - 1,
            )
    return table


def accuracy_text(candidate: CandidateResult) -> str:
    """The verdict on a candidate in a word or two; `*` where it was measured now."""
    found = candidate.accuracy
    if found is None:
        return "–"
    if found.origin == "reference":
        return "reference"
    star = "*" if found.origin == "measured" else ""
    cosine = "" if found.min_centred_cosine is None else f" {found.min_centred_cosine:.4f}"
    return f"[green]passed[/]{cosine}{star}" if found.passed else f"[bold red]FAILED[/]{cosine}{star}"


def _numbers(cell: Cell, first: float | None) -> list[str]:
    return [
        str(cell.batch),
        f"{cell.items_per_s:.1f}",
        "–" if first is None else f"{cell.items_per_s / first:.2f}",
        f"{cell.p50_ms:.2f}",
        f"{cell.p99_ms:.2f}{'†' if cell.p99_is_maximum else ''}",
        "–" if cell.memory_bytes is None else f"{cell.memory_bytes / 1e6:.0f}",
    ]

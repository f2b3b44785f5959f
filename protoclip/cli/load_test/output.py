"""Runs a load test with a progress bar, and prints and writes what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape

from protoclip.cli.app import console
from protoclip.contract.errors import ConfigError, VerdictError
from protoclip.reports.tables import narrow_table

if TYPE_CHECKING:
    from rich.table import Table

    from protoclip.cli.client.server_options import Server
    from protoclip.load_test.inputs import Inputs
    from protoclip.load_test.result import Result
    from protoclip.load_test.settings import Load

_NAMES = {"image": "pictures", "text": "texts"}
_LATENCIES = ("p50", "p90", "p99", "p99.9", "max")


def check_plot(plot: Path | None) -> None:
    """Raises, before anything is measured, ConfigError for another kind of file than a page."""
    if plot is None:
        return
    if plot.suffix != ".html":
        raise ConfigError(f"--plot {plot}: the file must end in .html")
    import jinja2  # noqa: F401 - a missing package is told before the run, and not after it


def running(server: Server, url: str, load: Load, inputs: Inputs) -> Result:
    """Finds the model, runs the load with a progress bar, and gives the numbers."""
    from protoclip.load_test.result import make_result
    from protoclip.load_test.run import run_load

    with server.connected(url) as client:
        model = client.model
    _check_batch_size(load.batch_size, model.max_batch_size)
    transport = server.transport(url)
    try:
        with _progress(load) as progress:
            measured = run_load(transport, model, inputs, load, progress)
    finally:
        transport.close()
    return make_result(url, model, inputs, load, measured)


def finish(result: Result, plot: Path | None, as_json: bool) -> None:
    """Table or JSON, page and warnings.

    Raises:
        ProtoclipError: the page can't be written.
        VerdictError: an answer was wrong, or none was right.
        typer.Exit: with 130, after Ctrl-C.
    """
    if as_json:
        typer.echo(result.to_json(), nl=False)
    else:
        _print_result(result)
    for warning in result.warnings:
        console.print(f"[bold yellow]warning:[/] {escape(warning)}", highlight=False)
    if plot is not None:
        from protoclip.contract.files import write_text
        from protoclip.load_test.page import load_test_page

        write_text(plot, load_test_page(result))
        console.print(f"wrote {plot}", highlight=False, markup=False)
    if result.num_wrong:
        raise VerdictError(f"{result.num_wrong} answers were wrong: {_example(result)}")
    if result.interrupted:
        raise typer.Exit(130)
    if not result.num_answered:
        raise VerdictError(f"no request was answered: {_example(result)}")


def _check_batch_size(batch_size: int, most: int) -> None:
    if batch_size > most:
        raise ConfigError(f"--batch-size {batch_size}: the server takes {most} at most: lower it")


@contextmanager
def _progress(load: Load) -> Iterator[Callable[[float], None]]:
    from protoclip.cli.client.connection import new_progress

    with new_progress() as bar:
        task = bar.add_task("seconds", total=round(load.end_s))
        yield lambda now_s: bar.update(task, completed=min(round(now_s), round(load.end_s)))


def _print_result(result: Result) -> None:
    output = Console(highlight=False)
    settings = result.settings
    loop = (
        f"closed loop of {settings['clients']} clients"
        if result.loop == "closed"
        else f"open loop at {settings['rate']:g} requests a second, at most {settings['clients']} at once"
    )
    output.print(
        f"{escape(result.model)} at {escape(result.url)}: {loop}, {settings['batch_size']} in a request; "
        f"{result.measured_s:.1f} s measured",
        soft_wrap=True,
    )
    output.print(f"pictures: {result.images_from}; texts: {result.texts_from}", markup=False, soft_wrap=True)
    output.print(_latencies(result))
    for role, kind in result.kinds.items():
        for failure, count in kind.failures.items():
            output.print(
                f"[bold red]failed[/]: {count} × {failure} ({_NAMES[role]}), such as "
                f"{escape(kind.examples[failure][0])}",
                soft_wrap=True,
            )
    if result.served:
        output.print(_served(result))
    elif result.no_statistics:
        output.print(f"no times of the server: {escape(result.no_statistics)}", style="dim", soft_wrap=True)


def _latencies(result: Result) -> Table:
    table = narrow_table(
        (
            "requests",
            "answered",
            "a second",
            *(f"{name}\nms" for name in _LATENCIES),
            "failed",
            "refused as\nexpected",
        ),
    )
    for role, kind in result.kinds.items():
        table.add_row(
            _NAMES[role],
            f"{kind.answered:,}",
            f"{kind.requests_per_s:.1f}",
            *(_number(kind.latency_ms[name]) for name in _LATENCIES),
            f"{kind.num_failed:,}",
            f"{kind.refused_as_expected:,}",
        )
    return table


def _served(result: Result) -> Table:
    headers = (
        "model",
        "requests",
        "failed",
        "items\neach",
        "total\nms",
        "queue\nms",
        "input\nms",
        "infer\nms",
        "output\nms",
    )
    table = narrow_table(headers, caption="the server's own means, of all its clients")
    for model in result.served or ():
        times = (model.total_ms, model.queue_ms, model.input_ms, model.infer_ms, model.output_ms)
        table.add_row(
            model.name,
            f"{model.requests:,}",
            f"{model.failed:,}",
            _number(model.items_per_execution, 1),
            *map(_number, times),
        )
    return table


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _example(result: Result) -> str:
    """The first message of a wrong answer, or else of any failure."""
    examples = [kind.examples for kind in result.kinds.values()]
    wrong = [messages["wrong answer"][0] for messages in examples if "wrong answer" in messages]
    others = [kinds[0] for messages in examples for kinds in messages.values()]
    return (wrong or others or ["nothing was sent: raise --duration"])[0]

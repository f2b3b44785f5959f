"""`protoclip export` and `protoclip verify`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import JsonOption, app, console

if TYPE_CHECKING:
    from export.progress import Progress
    from export.samples import Samples
    from export.source import Source

SourceArgument = Annotated[str, typer.Argument(help="Run folder, or the name of an open_clip model.")]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Local checkpoint for an open_clip name; without it the weights are random.")
]
DataOption = Annotated[
    Path | None,
    typer.Option(help="CSV, JSON Lines or Parquet of pairs to compare on; default: the bundled pictures."),
]
ImageColumnOption = Annotated[str, typer.Option(help="Column of --data with the picture.")]
TextColumnOption = Annotated[str, typer.Option(help="Column of --data with the text.")]


@app.command("export")
def export_command(
    source: SourceArgument,
    out: Annotated[Path | None, typer.Option(help="Artifact folder; default: artifacts/NAME.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Prefix of the served models' names; default: SOURCE's.")
    ] = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set, 18 to 22.")] = 18,
    weights: WeightsOption = None,
    data: DataOption = None,
    image_column: ImageColumnOption = "image",
    text_column: TextColumnOption = "text",
    allow_inaccurate: Annotated[
        bool, typer.Option("--allow-inaccurate", help="Write the artifact even where the comparison fails.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Export a model to ONNX and prove that it gives what the torch model gives; exit code 1 where it does not.

    Example: protoclip export runs/emoji --name emoji
    """
    from export.artifact import check_target, default_name, export_artifact

    name = name or default_name(source)
    out = out or Path("artifacts") / name
    check_target(out, name, opset)
    found = _load(source, weights)
    samples = _samples(data, image_column, text_column)
    with _progress() as progress:
        manifest = export_artifact(
            found.clip,
            out,
            name,
            samples,
            opset=opset,
            random_weights=found.random_weights,
            allow_inaccurate=allow_inaccurate,
            progress=progress,
        )
    _print_report(json.loads((out / manifest.verdict.report_file).read_text()), as_json)
    console.print(f"wrote {out}; next: [bold]protoclip repository {out}[/]", soft_wrap=True)


@app.command("verify")
def verify_command(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder that `protoclip export` wrote.")],
    source: SourceArgument,
    weights: WeightsOption = None,
    data: DataOption = None,
    image_column: ImageColumnOption = "image",
    text_column: TextColumnOption = "text",
    as_json: JsonOption = False,
) -> None:
    """Compare an artifact once more with the model it was made from; exit code 1 where they differ.

    Example: protoclip verify artifacts/emoji runs/emoji
    """
    from export.artifact import verify_artifact
    from protoclip.contract.errors import VerdictError

    found = _load(source, weights)
    samples = _samples(data, image_column, text_column)
    with _progress() as progress:
        report = verify_artifact(artifact, found.clip, samples, found.random_weights, progress)
    _print_report(json.loads(report.to_json()), as_json)
    if not report.passed:
        raise VerdictError(f"{artifact}: {report.failures[0]}: export the model again")


def bundled_corpus() -> Path:
    """Folder of the pictures that ship with ProtoCLIP."""
    from importlib.resources import files

    return Path(str(files("protoclip") / "demo" / "corpus"))


def _samples(data: Path | None, image_column: str, text_column: str) -> Samples:
    from export.samples import pick_samples
    from protoclip.config import DataConfig
    from protoclip.data.table import load_pairs

    if data is None:
        config = DataConfig(path=(str(bundled_corpus()),), image_column="image", text_columns=("texts",))
        return pick_samples(load_pairs(config), "the bundled corpus")
    config = DataConfig(path=(str(data),), image_column=image_column, text_columns=(text_column,))
    return pick_samples(load_pairs(config), str(data))


def _load(source: str, weights: Path | None) -> Source:
    from export.source import load_source

    found = load_source(source, weights)
    if found.random_weights:
        console.print(
            "[yellow]random weights[/]: this proves the graph, not accuracy; --weights FILE takes a checkpoint",
            soft_wrap=True,
        )
    return found


@contextmanager
def _progress() -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("")

        def show(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total)

        yield show


def _print_report(report: dict[str, Any], as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    if as_json:
        typer.echo(json.dumps(report))
        return
    table = Table(caption="largest difference, least cosine, least centred cosine", caption_justify="left")
    for heading in ("encoder", "batch", "inputs", "difference", "cosine", "centred", "finite"):
        table.add_column(heading, justify="left" if heading == "encoder" else "right")
    for encoder in ("image", "text"):
        for size, found in report[encoder]["by_batch_size"].items():
            table.add_row(encoder, size, *_cells(found))
        table.add_row(encoder, "hostile", *_cells(report[encoder]["adversarial"]))
    output = Console(highlight=False)
    output.print(f"{report['candidate']} against {report['reference']}, on {report['samples']}", soft_wrap=True)
    output.print(table)
    outcome = "[green]passed[/]" if report["passed"] else "[bold red]failed[/]"
    output.print(f"{outcome}: at most {report['gate']['max_abs_difference']:.0e} apart is allowed")
    output.print(f"proves {report['proves']}")


def _cells(found: dict[str, Any]) -> list[str]:
    def number(key: str, form: str) -> str:
        return "–" if found[key] is None else format(found[key], form)

    return [
        str(found["num_inputs"]),
        number("max_abs_difference", ".1e"),
        number("min_cosine", ".7f"),
        number("min_centred_cosine", ".7f"),
        "yes" if found["finite"] else "no",
    ]

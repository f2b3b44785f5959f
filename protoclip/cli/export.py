"""`protoclip export` and `protoclip verify`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import JsonOption, app, console
from .export_output import announce, print_report, unverified
from .export_trt import (
    BuilderOption,
    CapabilityOption,
    HardwareOption,
    LevelOption,
    ProfileOption,
    TimingCacheOption,
    TrtOption,
    TrtOptions,
    WorkspaceOption,
)

if TYPE_CHECKING:
    from export.progress import Progress
    from export.samples import Samples
    from export.source import Source
    from protoclip.contract.manifest import Precision
    from protoclip.data.table import Pairs

PrecisionOption = Annotated[
    list[str] | None,
    typer.Option(help="Beside fp32, which is always written: fp16, bf16, int8, int8_static or fp8. Repeatable."),
]
TokenizerOption = Annotated[
    Path | None, typer.Option(help="tokenizer.json of a model whose tokenizer is on the Hugging Face hub.")
]
LabelColumnOption = Annotated[
    str | None, typer.Option(help="Column of --data with the picture's class, for zero-shot accuracy.")
]
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


@dataclass(frozen=True)
class _Table:
    """Where pairs to compare on come from; `path` None: the bundled corpus."""

    path: Path | None
    image_column: str
    text_column: str
    label_column: str | None


@app.command("export")
def export_command(
    source: SourceArgument,
    out: Annotated[Path | None, typer.Option(help="Artifact folder; default: artifacts/NAME.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Prefix of the served models' names; default: SOURCE's.")
    ] = None,
    precision: PrecisionOption = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set, 18 to 22.")] = 18,
    weights: WeightsOption = None,
    tokenizer: TokenizerOption = None,
    data: DataOption = None,
    image_column: ImageColumnOption = "image",
    text_column: TextColumnOption = "text",
    label_column: LabelColumnOption = None,
    trt: TrtOption = False,
    builder: BuilderOption = None,
    profile: ProfileOption = None,
    workspace_mb: WorkspaceOption = None,
    builder_level: LevelOption = None,
    timing_cache: TimingCacheOption = None,
    hardware_compatibility: HardwareOption = None,
    compute_capability: CapabilityOption = None,
    allow_inaccurate: Annotated[
        bool, typer.Option("--allow-inaccurate", help="Keep engines for which the comparison fails, marked so.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Export a model to ONNX and TensorRT and prove that it gives what torch gives; exit code 1 where it does not.

    Example: protoclip export runs/emoji --name emoji --trt --precision fp16
    """
    from export.artifact import export_artifact
    from export.precision import check_precisions
    from export.target import check_target, default_name

    name = name or default_name(source)
    out = out or Path("artifacts") / name
    check_target(out, name, opset)
    wanted = check_precisions(precision or ())
    plans = TrtOptions(
        builder, profile, workspace_mb, builder_level, timing_cache, hardware_compatibility, compute_capability
    ).plans(trt, precision or ())
    found = _load(source, weights, tokenizer)
    table = _Table(data, image_column, text_column, label_column)
    with _progress() as progress:
        manifest = export_artifact(
            found.clip,
            out,
            name,
            _samples(table),
            opset=opset,
            precisions=wanted,
            calibration=_calibration(table, wanted),
            plans=plans,
            random_weights=found.random_weights,
            allow_inaccurate=allow_inaccurate,
            progress=progress,
        )
    report = json.loads((out / manifest.engine.verdict.report_file).read_text())
    print_report(report, as_json)
    announce(out, source, manifest, report)


@app.command("verify")
def verify_command(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder that `protoclip export` wrote.")],
    source: SourceArgument,
    out: Annotated[Path | None, typer.Option(help="Folder for verify.json and .html; default: ARTIFACT.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another artifact of the same model to compare with, in place of torch.")
    ] = None,
    weights: WeightsOption = None,
    tokenizer: TokenizerOption = None,
    data: DataOption = None,
    image_column: ImageColumnOption = "image",
    text_column: TextColumnOption = "text",
    label_column: LabelColumnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare an artifact once more with the model it was made from; exit code 1 where they differ.

    Example: protoclip verify artifacts/emoji runs/emoji
    """
    from export.artifact import failure_line, write_report
    from export.verify_artifact import verify_artifact
    from protoclip.contract.errors import VerdictError

    found = _load(source, weights, tokenizer)
    samples = _samples(_Table(data, image_column, text_column, label_column))
    with _progress() as progress:
        report = verify_artifact(artifact, found.clip, samples, found.random_weights, progress, against=against)
    write_report(report, out or artifact, "verify")
    print_report(json.loads(report.to_json()), as_json)
    console.print(f"wrote {(out or artifact) / 'verify.html'}", soft_wrap=True)
    failed = [engine for engine in report.engines if not engine.passed]
    if failed:
        # What was run and is wrong comes before what could not be run here.
        first = min(failed, key=lambda engine: not engine.ran)
        way_out = "export the model again" if first.ran else unverified(artifact, source)
        raise VerdictError(f"{artifact}: {failure_line(first)}: {way_out}")


def bundled_corpus() -> Path:
    """Folder of the pictures that ship with ProtoCLIP."""
    from importlib.resources import files

    return Path(str(files("protoclip") / "demo" / "corpus"))


def _pairs(table: _Table) -> tuple[Pairs, str]:
    from protoclip.config import DataConfig
    from protoclip.data.table import load_pairs

    if table.path is None:
        config = DataConfig(path=(str(bundled_corpus()),), image_column="image", text_columns=("texts",))
        return load_pairs(config), "the bundled corpus"
    columns = {"image_column": table.image_column, "text_columns": (table.text_column,)}
    return load_pairs(DataConfig(path=(str(table.path),), **columns)), str(table.path)


def _samples(table: _Table) -> Samples:
    from export.samples import pick_samples

    label_column = "category" if table.path is None else table.label_column
    return pick_samples(*_pairs(table), label_column=label_column)


def _calibration(table: _Table, precisions: tuple[Precision, ...]) -> Samples | None:
    from export.precision import CALIBRATED
    from export.samples import pick_calibration

    return pick_calibration(*_pairs(table)) if set(CALIBRATED) & set(precisions) else None


def _load(source: str, weights: Path | None, tokenizer: Path | None) -> Source:
    from export.source import load_source

    found = load_source(source, weights, tokenizer)
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

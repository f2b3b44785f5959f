"""`protoclip evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from protoclip.config.setting_types import DeviceName
from protoclip.distributed.devices import device_of

from .app import JsonOption, app, console
from .evaluate_alone import Asked, check_alone, evaluate_alone, has_no_run
from .measured_models import is_artifact, load_measured, own_device
from .reading import (
    DEFAULT_ENCODING,
    DEFAULT_MAX_LEFT_OUT,
    DelimiterOption,
    EncodingOption,
    ImageColumnOption,
    LayoutOption,
    MaxLeftOutOption,
    ReadingOptions,
    SplitOption,
    TextColumnOption,
    errors_as_options,
)

if TYPE_CHECKING:
    from protoclip.evaluation.features import MeasuredModel


@app.command()
def evaluate(
    run: Annotated[
        str,
        typer.Argument(
            help="Folder that `protoclip train` wrote; RUN/best, RUN/last: a checkpoint. With --data also an "
            "artifact, hf-hub:ORG/NAME, or NAME:TAG of a published model."
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure on this instead; what `train --data` reads, or a folder of clip_benchmark's. Repeatable."
        ),
    ] = None,
    image_column: ImageColumnOption = None,
    text_column: TextColumnOption = None,
    split: SplitOption = None,
    encoding: EncodingOption = DEFAULT_ENCODING,
    delimiter: DelimiterOption = None,
    layout: LayoutOption = None,
    max_left_out: MaxLeftOutOption = DEFAULT_MAX_LEFT_OUT,
    artifact: Annotated[
        Path | None, typer.Option(help="Measure an engine of this artifact of the run instead.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Which one, such as onnx_int8; default: the one that is served.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures at a time.")] = None,
    device: Annotated[
        DeviceName,
        typer.Option(help="Where the run's model computes; auto: a GPU if there is one."),
    ] = "auto",
    captions: Annotated[
        Literal["label", "all"] | None,
        typer.Option(help="Retrieval among a label of each group, or all texts of all pictures, as on COCO."),
    ] = None,
    shots: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Also linear probes on so many training pictures of each class. Repeatable."),
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(help="Of a model without a run: rows with the same value show the same thing."),
    ] = None,
    class_column: Annotated[
        list[str] | None,
        typer.Option(help="Of a model without a run: also zero-shot classification by this. Repeatable."),
    ] = None,
    keep_features: Annotated[
        bool, typer.Option(help="Keep pictures' embeddings in RUN/features, for the next time.")
    ] = True,
    out: Annotated[
        Path | None, typer.Option(help="Also write the result here; that of a run is written into it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a run: retrieval, zero-shot, probes, prototypes. Example: protoclip evaluate runs/emoji"""
    from rich.progress import Progress

    from protoclip.contract.errors import ConfigError
    from protoclip.distributed import collectives
    from protoclip.evaluation.run import evaluate_run, evaluate_run_on_benchmark, result_path
    from protoclip.evaluation.table import evaluation_tables

    alone = has_no_run(run, data_is_named=bool(data))
    if engine is not None and artifact is None and not is_artifact(run):
        raise ConfigError(f"--engine {engine}: of which artifact? name it with --artifact")
    if (artifact is not None or is_artifact(run)) and device != "auto":
        raise ConfigError(f"--device {device}: an engine has a device of its own: leave it out, or --artifact")
    if alone:
        check_alone(artifact=artifact, shots=shots)
    elif group_column is not None or class_column:
        raise ConfigError(f"--group-column, --class-column: {run} has those of its training: leave them out")
    measured = None if artifact is None else _engine(artifact, engine, Path(run))
    reading = ReadingOptions(image_column, text_column, split, encoding, delimiter, layout, max_left_out)
    benchmark = _benchmark_folder(data, split)
    if benchmark is not None:
        named = {
            "--captions": captions,
            "--shots": shots,
            "--group-column": group_column,
            "--class-column": class_column,
        }
        _check_benchmark(benchmark, named, reading)
        reading = replace(reading, split=split or "test")
    other = reading.of(*data, texts=True) if data else None
    with (
        errors_as_options() if data else nullcontext(),
        # Embeddings meet on the CPU, wherever they are made.
        collectives.ranks("cpu"),
        Progress(console=console, transient=True, disable=not collectives.is_first()) as progress,
    ):
        chosen = own_device(device_of(device, f"--device {device}"))
        if alone and other is not None:
            asked = Asked(other, benchmark, group_column, tuple(class_column or ()), captions)
            found = evaluate_alone(load_measured(run, chosen, engine), asked, batch_size, progress)
        elif benchmark is not None:
            found = evaluate_run_on_benchmark(
                Path(run),
                benchmark,
                split or "test",
                max_left_out=max_left_out,
                batch_size=batch_size,
                engine=measured,
                device=chosen,
                progress=progress,
            )
        else:
            found = evaluate_run(
                Path(run),
                data=other,
                batch_size=batch_size,
                engine=measured,
                device=chosen,
                progress=progress,
                captions=captions,
                keep_features=keep_features,
                few_shot=shots,
            )
        is_first = collectives.is_first()
    if not is_first:
        return
    written = [] if alone else [result_path(Path(run), other, measured)]
    if out is not None:
        found.save(out)
        written.append(out)
    if as_json:
        typer.echo(found.to_json())
        return
    Console().print(*evaluation_tables(found))
    if written:
        console.print(f"written to {' and '.join(map(str, written))}")


def _benchmark_folder(data: list[str] | None, split: str | None) -> Path | None:
    from protoclip.evaluation.benchmark_folder import is_benchmark_folder

    if data is not None and len(data) == 1 and is_benchmark_folder(data[0], split or "test"):
        return Path(data[0])
    return None


def _check_benchmark(folder: Path, named: Mapping[str, object], reading: ReadingOptions) -> None:
    """Raises ConfigError for options that a folder of clip_benchmark's leaves nothing to say for."""
    from protoclip.contract.errors import ConfigError

    given = [option for option, value in named.items() if value]
    # Its layout says where pictures, names and captions are.
    if replace(reading, split=None, max_left_out=DEFAULT_MAX_LEFT_OUT) != ReadingOptions():
        given += ["--image-column, --text-column, --encoding, --delimiter, --layout"]
    if given:
        raise ConfigError(
            f"{folder}: a folder of clip_benchmark's has classes, captions and a layout of its own, and no "
            f"training pairs: leave {', '.join(given)} out"
        )


def _engine(artifact: Path, name: str | None, run: Path) -> MeasuredModel:
    from export.measured_engine import measured_engine
    from protoclip.runs.model import load_model

    return measured_engine(artifact, name, load_model(run))

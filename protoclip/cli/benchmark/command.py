"""`protoclip benchmark`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from protoclip.cli.app import JsonOption, app
from protoclip.cli.pairs import DataOption, LabelColumnOption, PairsOptions, progress_bar
from protoclip.cli.preprocessing import (
    InterpolationOption,
    MeanOption,
    PreprocessingOptions,
    ResizeModeOption,
    StdOption,
)
from protoclip.cli.reading import (
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
)

from .output import print_benchmark

if TYPE_CHECKING:
    from export.benchmark.results import EncoderName

EncoderOption = Annotated[Literal["image", "text", "both"], typer.Option(help="Which encoder is timed.")]
_ENCODERS: dict[str, tuple[EncoderName, ...]] = {"image": ("image",), "text": ("text",), "both": ("image", "text")}


@app.command()
def benchmark(
    artifact: Annotated[Path, typer.Argument(help="Folder that `protoclip export` wrote.")],
    source: Annotated[
        str | None, typer.Argument(help="Run folder or open_clip name it was made from: times torch too.")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Batch size, default 1, 8 and 32. Repeatable.")] = None,
    encoder: EncoderOption = "image",
    candidate: Annotated[
        list[str] | None,
        typer.Option("--candidate", "--arm", help="Run this candidate only, such as onnx_int8. Repeatable."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="Time of each candidate at each batch size, over all rounds.")
    ] = 2.0,
    rounds: Annotated[int, typer.Option(help="Rounds in which the candidates take turns.")] = 5,
    threads: Annotated[
        int | None, typer.Option(help="Threads of every candidate; default: this machine's cores.")
    ] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Largest p99 latency of what is chosen.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="--weights that the open_clip name was exported with.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="tokenizer.json that it was exported with.")] = None,
    data: DataOption = None,
    image_column: ImageColumnOption = None,
    text_column: TextColumnOption = None,
    label_column: LabelColumnOption = None,
    split: SplitOption = None,
    encoding: EncodingOption = DEFAULT_ENCODING,
    delimiter: DelimiterOption = None,
    layout: LayoutOption = None,
    max_left_out: MaxLeftOutOption = DEFAULT_MAX_LEFT_OUT,
    html: Annotated[Path | None, typer.Option(help="Also write a page with table and plot.")] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Keep speeds and choice in the artifact's manifest.")
    ] = False,
    mean: MeanOption = None,
    std: StdOption = None,
    interpolation: InterpolationOption = None,
    resize_mode: ResizeModeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time an artifact's engines side by side and name the best to serve; exit code 1 where there is none.

    Example: protoclip benchmark artifacts/emoji runs/emoji --batch 1 --batch 8 --max-latency-ms 50
    """
    from export.benchmark.candidates import Model
    from export.benchmark.run import Settings, run_benchmark

    encoders, cores = _ENCODERS[encoder], threads if threads is not None else _cores()
    settings = Settings(tuple(batch or (1, 8, 32)), encoders, seconds, rounds, cores, max_latency_ms)
    prepared = PreprocessingOptions(mean, std, interpolation, resize_mode).config()
    model = None if source is None else Model(source, weights, tokenizer, prepared)
    reading = ReadingOptions(image_column, text_column, split, encoding, delimiter, layout, max_left_out)
    samples = PairsOptions(data, reading, label_column).samples()
    with progress_bar() as progress:
        found = run_benchmark(artifact, samples, settings, model, only=candidate or (), progress=progress)
    print_benchmark(found, html, save, as_json)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""`protoclip export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from protoclip.cli.app import JsonOption, app
from protoclip.cli.pairs import (
    DEFAULT_SAMPLES,
    DataOption,
    LabelColumnOption,
    MaxBatchOption,
    PairsOptions,
    SamplesOption,
    SourceArgument,
    SourceOptions,
    TokenizerOption,
    WeightsOption,
    announce_budget,
    check_max_batch_size,
    progress_bar,
)
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
from protoclip.contract.served_parameters import MAX_BATCH_SIZE

from .output import announce, end_with_unproven_accuracy, print_report
from .plans import (
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

PrecisionOption = Annotated[
    list[str] | None,
    typer.Option(help="Beside fp32, which is always written: fp16, bf16, int8, int8_static or fp8. Repeatable."),
]
OpenVinoOption = Annotated[
    list[str] | None,
    typer.Option(
        "--openvino", help="Also engines that OpenVINO runs on a CPU: fp32, bf16 or int8_static. Repeatable."
    ),
]
DetectorOption = Annotated[
    Path | None,
    typer.Option(
        help="File that `protoclip detect fit` wrote for this model: the artifact carries it, and what is served "
        "says of each picture whether it is of a known kind."
    ),
]


@app.command("export")
def export_command(
    source: SourceArgument,
    out: Annotated[Path | None, typer.Option(help="Artifact folder; default: artifacts/NAME.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Prefix of the served models' names; default: SOURCE's.")
    ] = None,
    precision: PrecisionOption = None,
    openvino: OpenVinoOption = None,
    detector: DetectorOption = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set, 18 to 22.")] = 18,
    weights: WeightsOption = None,
    tokenizer: TokenizerOption = None,
    data: DataOption = None,
    image_column: ImageColumnOption = None,
    text_column: TextColumnOption = None,
    label_column: LabelColumnOption = None,
    split: SplitOption = None,
    encoding: EncodingOption = DEFAULT_ENCODING,
    delimiter: DelimiterOption = None,
    layout: LayoutOption = None,
    max_left_out: MaxLeftOutOption = DEFAULT_MAX_LEFT_OUT,
    samples: SamplesOption = DEFAULT_SAMPLES,
    max_batch_size: MaxBatchOption = MAX_BATCH_SIZE,
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
    mean: MeanOption = None,
    std: StdOption = None,
    interpolation: InterpolationOption = None,
    resize_mode: ResizeModeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export a model to ONNX and TensorRT and prove that it gives what torch gives; exit code 1 where it does not.

    Of random weights a lower precision is written without proof of its accuracy: exit code 3.

    Example: protoclip export runs/emoji --name emoji --trt --precision fp16
    """
    from export.artifact import export_artifact
    from export.carried_detector import open_detector
    from export.engine_openvino import check_openvino_engines
    from export.graphs.openvino_runtime import graph_precision
    from export.graphs.precision import check_precisions
    from export.target import check_target, default_name

    name = name or default_name(source)
    out = out or Path("artifacts") / name
    check_target(out, name, opset)
    check_max_batch_size(max_batch_size)
    given = None if detector is None else open_detector(detector)
    in_openvino = check_openvino_engines(openvino or ())
    wanted = check_precisions((*(precision or ()), *map(graph_precision, in_openvino)), opset)
    plans = TrtOptions(
        builder, profile, workspace_mb, builder_level, timing_cache, hardware_compatibility, compute_capability
    ).plans(trt, precision or ())
    model = SourceOptions(source, weights, tokenizer, PreprocessingOptions(mean, std, interpolation, resize_mode))
    reading = ReadingOptions(image_column, text_column, split, encoding, delimiter, layout, max_left_out)
    pairs = PairsOptions(data, reading, label_column, samples)
    found = model.load()
    compared, calibration = pairs.samples(), pairs.calibration(wanted)
    # OpenVINO computes bf16 as fast as its graph, which is emulated elsewhere.
    timed = (*wanted, *map(graph_precision, in_openvino))
    announce_budget(found, compared, timed, max_batch_size)
    with progress_bar() as progress:
        manifest = export_artifact(
            found.clip,
            out,
            name,
            compared,
            opset=opset,
            precisions=wanted,
            openvino=in_openvino,
            calibration=calibration,
            plans=plans,
            detector=given,
            random_weights=found.random_weights,
            allow_inaccurate=allow_inaccurate,
            largest_batch=max_batch_size,
            progress=progress,
        )
    report = json.loads((out / manifest.engine.verdict.report_file).read_text())
    print_report(report, as_json)
    announce(out, str(model), manifest, report)
    end_with_unproven_accuracy(report)

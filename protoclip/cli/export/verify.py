"""`protoclip verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from protoclip.cli.app import JsonOption, app, console
from protoclip.cli.credentials import (
    CaFileOption,
    ClientCertOption,
    ClientKeyOption,
    HeaderOption,
    parsed_headers,
)
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

from .output import end_with_unproven_accuracy, print_report, unverified

_WAY_OUT = {
    "artifact": "export the model again",
    "server": "write its repository anew with `protoclip repository`, and start it again",
}


@app.command("verify")
def verify_command(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder that `protoclip export` wrote.")],
    source: SourceArgument,
    out: Annotated[Path | None, typer.Option(help="Folder for verify.json and .html; default: ARTIFACT.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another artifact of the same model to compare with, in place of torch.")
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(
            help="Ask the server at grpc://host:port or http://host:port instead of running the artifact here. "
            "The other protocol's port is taken to be beside it (http 8000, grpc 8001): or name both. Repeatable."
        ),
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="With --url: grpc or http alone. Default: both.")] = None,
    header: HeaderOption = None,
    ca_file: CaFileOption = None,
    client_cert: ClientCertOption = None,
    client_key: ClientKeyOption = None,
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
    mean: MeanOption = None,
    std: StdOption = None,
    interpolation: InterpolationOption = None,
    resize_mode: ResizeModeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare an artifact, or a server with it, with the model it was made from; exit code 1 where they differ.

    Example: protoclip verify artifacts/emoji runs/emoji --url grpc://localhost:8001
    """
    from export.artifact import failure_line, write_report
    from export.parity.checks import failed_lines
    from export.target import check_writable
    from export.verify_artifact import verify_artifact
    from export.verify_server import verify_server
    from protoclip.contract.errors import ConfigError, VerdictError
    from protoclip.contract.manifest import load_manifest

    from .server import Credentials, server_addresses

    urls = server_addresses(url or (), protocol)
    credentials = Credentials(parsed_headers(header or ()), ca_file, client_cert, client_key)
    credentials.check_used(urls)
    if urls and against:
        raise ConfigError(f"--against {against} compares two artifacts: leave it or --url out")
    check_max_batch_size(max_batch_size)
    manifest = load_manifest(artifact)
    check_writable(out or artifact)
    options = SourceOptions(
        source, weights, tokenizer, PreprocessingOptions(mean, std, interpolation, resize_mode)
    )
    reading = ReadingOptions(image_column, text_column, split, encoding, delimiter, layout, max_left_out)
    pairs = PairsOptions(data, reading, label_column, samples)
    found = options.load()
    compared = pairs.samples()
    if not urls:
        announce_budget(found, compared, [engine.precision for engine in manifest.engines], max_batch_size)
    with progress_bar() as progress:
        if urls:
            report = verify_server(
                artifact, found.clip, compared, urls, credentials.connect, found.random_weights, progress
            )
        else:
            report = verify_artifact(
                artifact,
                found.clip,
                compared,
                found.random_weights,
                progress,
                against=against,
                largest_batch=max_batch_size,
            )
    write_report(report, out or artifact, "verify")
    print_report(json.loads(report.to_json()), as_json)
    console.print(f"wrote {(out or artifact) / 'verify.html'}")
    if any(check.outcome == "failed" for check in report.checks):
        raise VerdictError(f"{artifact}: {failure_line(report)}: export the model again")
    failed = [engine for engine in report.engines if not engine.passed]
    if failed:
        # Engines that ran and failed are reported before those that could not be run here.
        first = min(failed, key=lambda engine: not engine.ran)
        unseen = not first.ran and not failed_lines(first.checks)
        way_out = (
            unverified(artifact, str(options), first.name)
            if unseen
            else _WAY_OUT["server" if urls else "artifact"]
        )
        raise VerdictError(f"{artifact}: {failure_line(first)}: {way_out}")
    end_with_unproven_accuracy(json.loads(report.to_json()))

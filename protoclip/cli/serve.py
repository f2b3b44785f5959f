"""`protoclip repository` and `protoclip serve`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from .app import JsonOption, app, console
from .gateway_beside import GatewayBeside, gateway_beside
from .gateway_options import DEFAULT_PORT, GatewayOptions, takes_gateway, tell_missing
from .scaled_decoding import measured
from .scheduling_options import (
    BulkBatchSize,
    MaxQueued,
    PreprocessInstances,
    PreprocessThreads,
    QueueDelay,
    QueueTimeout,
    scheduling_of,
)
from .signals import signals_interrupt

if TYPE_CHECKING:
    from serving.gateway.settings import GatewaySettings
    from serving.triton.launcher import LaunchedServer, TritonServer
    from serving.triton.scheduling import Scheduling


@app.command()
def repository(
    artifact: Annotated[Path, typer.Argument(help="Folder that `protoclip export` wrote.")],
    out: Annotated[Path, typer.Option(help="Model repository to write into.")] = Path("model_repository"),
    engine: Annotated[
        str | None, typer.Option(help="Engine to serve, such as onnx_int8; default: the artifact's fastest.")
    ] = None,
    max_batch_size: Annotated[
        int | None, typer.Option(help="Most items in a request and in a server's batch; default: 64.")
    ] = None,
    encoder_threads: Annotated[
        int, typer.Option(help="Threads of each encoder on a CPU; 0: as many as help.")
    ] = 0,
    encoder_instances: Annotated[
        int,
        typer.Option(
            help="Instances of each encoder, on each GPU or on the CPU; with one, requests can wait 0.5 s."
        ),
    ] = 2,
    cuda_graphs: Annotated[
        bool,
        typer.Option("--cuda-graphs", help="CUDA graphs of a TensorRT plan; read docs/serving.md before."),
    ] = False,
    scaled_decoding: Annotated[
        str | None,
        typer.Option(
            help="Decode pictures no larger than needed, if the embeddings of these stay: pictures, as of `embed`."
        ),
    ] = None,
    bulk_batch_size: BulkBatchSize = None,
    queue_delay_us: QueueDelay = None,
    max_queued: MaxQueued = None,
    queue_timeout: QueueTimeout = None,
    preprocess_instances: PreprocessInstances = None,
    preprocess_threads: PreprocessThreads = None,
    as_json: JsonOption = False,
) -> None:
    """Write an artifact's models for Triton. Example: protoclip repository artifacts/emoji"""
    from protoclip.contract.manifest import load_manifest
    from serving.triton.deployed_files import forget_unproven
    from serving.triton.pbtxt import ROLES
    from serving.triton.repository import write_repository
    from serving.triton.shared_repository import check_replaceable

    scheduling = scheduling_of(
        bulk_batch_size, queue_delay_us, max_queued, queue_timeout, preprocess_instances, preprocess_threads
    )
    manifest = load_manifest(artifact)
    check_replaceable(out, [manifest.model_name(role, engine) for role in ROLES])
    verdict = None if scaled_decoding is None else measured(artifact, engine, scaled_decoding)
    with console.status(f"writing {out}"):
        names = write_repository(
            artifact,
            out,
            engine=engine,
            max_batch_size=max_batch_size,
            encoder_threads=encoder_threads,
            scheduling=scheduling,
            encoder_instances=encoder_instances,
            cuda_graphs=cuda_graphs,
            scaled_decoding=verdict,
        )
    # A deployment that was killed may have left the mark, and no server would serve what was just written.
    forget_unproven(out, names[0].removesuffix("_image"))
    _warn_of_batches(artifact, engine, max_batch_size)
    if as_json:
        typer.echo(json.dumps({"repository": str(out), "models": names}))
        return
    typer.echo("\n".join(names))
    console.print(f"written to {out}; next: [bold]protoclip serve {out}[/]")


@app.command()
@takes_gateway
def serve(
    repository: Annotated[
        Path, typer.Argument(help="Model repository, or an artifact that `protoclip export` wrote.")
    ] = Path("model_repository"),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(help="Port for HTTP; 0 picks a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="Port for gRPC; 0 picks a free one.")] = 8001,
    metrics_port: Annotated[int, typer.Option(help="Port for metrics; 0 picks a free one.")] = 8002,
    name: Annotated[list[str] | None, typer.Option(help="Serve only this artifact. Repeatable.")] = None,
    log_file: Annotated[Path | None, typer.Option(help="Keep the server's output in this file.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the start may take.")] = 120.0,
    bulk_batch_size: BulkBatchSize = None,
    queue_delay_us: QueueDelay = None,
    max_queued: MaxQueued = None,
    queue_timeout: QueueTimeout = None,
    preprocess_instances: PreprocessInstances = None,
    preprocess_threads: PreprocessThreads = None,
    gateway: Annotated[
        bool,
        typer.Option(
            "--gateway",
            help="Start the gateway too: one HTTP port for search, other software's interfaces, and /v2.",
        ),
    ] = False,
    gateway_host: Annotated[str, typer.Option(help="Address that the gateway listens on.")] = "127.0.0.1",
    gateway_port: Annotated[int, typer.Option(help="Its port; 0 picks a free one.")] = DEFAULT_PORT,
    gateway_model: Annotated[str | None, typer.Option(help="Its model, where several are served.")] = None,
    *,
    options: GatewayOptions,
    latency_summaries: Annotated[
        bool, typer.Option("--latency-summaries", help="Quantiles of queue and compute time in the metrics.")
    ] = False,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Events as JSON, an object a line, on standard error.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Start Triton and wait until it answers; Ctrl-C stops it. Example: protoclip serve artifacts/emoji"""
    from serving.triton.launcher import TritonServer
    from serving.triton.ports import Ports

    ports = Ports(http_port, grpc_port, metrics_port)
    beside = _gateway_settings(
        gateway, options, host=gateway_host, port=gateway_port, model=gateway_model, log_json=log_json
    )
    scheduling = scheduling_of(
        bulk_batch_size, queue_delay_us, max_queued, queue_timeout, preprocess_instances, preprocess_threads
    )
    with signals_interrupt(), _repository_of(repository, scheduling) as folder:
        server = TritonServer(
            folder,
            names=name or (),
            host=host,
            ports=ports,
            start_timeout_s=timeout,
            log_file=log_file,
            latency_summaries=latency_summaries,
        )
        report = _report_as_json if log_json else _report
        _run_until_stopped(server, as_json, report, beside, temporary=folder != repository)


@contextmanager
def _repository_of(folder: Path, scheduling: Scheduling | None) -> Iterator[Path]:
    """`folder` itself; where it is an artifact, a temporary repository with its default engine.

    Raises:
        ConfigError: settings for a repository that is written already.
    """
    from protoclip.contract.errors import ConfigError
    from protoclip.contract.manifest import MANIFEST_FILE
    from serving.triton.repository import write_repository
    from serving.triton.temporary_folder import TemporaryFolder

    if not (folder / MANIFEST_FILE).is_file():
        if scheduling is not None:
            raise ConfigError(
                f"{folder} holds its own settings of queues and preprocessing: give them to `protoclip "
                "repository`, or serve an artifact"
            )
        yield folder
        return
    # If this process is killed, the next server removes this folder.
    temporary = TemporaryFolder()
    try:
        write_repository(folder, temporary.folder / "repository", scheduling=scheduling)
        yield temporary.folder / "repository"
    finally:
        temporary.remove()


def _gateway_settings(
    wanted: bool, options: GatewayOptions, **others: Any
) -> Callable[[LaunchedServer], GatewaySettings] | None:
    """What gives the settings of the gateway before a launched server; None where there is to be none.

    Raises:
        ConfigError: options of the gateway without it, or wrong ones.
    """
    from protoclip.contract.errors import ConfigError

    if not wanted:
        if options != GatewayOptions():
            raise ConfigError("--index, --pictures, --classes and --keys-file are of the gateway: add --gateway")
        return None

    def settings(url: str, kserve_url: str) -> GatewaySettings:
        return options.settings(url=url, kserve_url=kserve_url, **others)

    # Now, so that a wrong one is said before the models are loaded.
    tell_missing(settings("grpc://127.0.0.1", "http://127.0.0.1"))
    return lambda launched: settings(launched.grpc_url, launched.http_url)


def _run_until_stopped(
    server: TritonServer,
    as_json: bool,
    report: Callable[[str], None],
    beside: Callable[[LaunchedServer], GatewaySettings] | None,
    *,
    temporary: bool,
) -> None:
    from serving.triton.supervision import Supervisor

    with console.status("starting Triton"):
        launched = server.__enter__()
    try:
        settings = None if beside is None else beside(launched)
        with gateway_beside(settings, server.start_timeout_s) as gateways:
            _announce(launched, gateways, as_json)
            with deployable(server, launched, report, temporary=temporary):
                Supervisor(server, report, beside=gateways).run()
    except KeyboardInterrupt:
        report("stopping")
    finally:
        server.__exit__(None, None, None)


@contextmanager
def deployable(
    server: TritonServer, launched: LaunchedServer, report: Callable[[str], None], *, temporary: bool = False
) -> Iterator[None]:
    """Takes the requests of `protoclip deploy` within the block; `temporary`: the repository goes with it."""
    from serving.triton.control import ControlSocket, Running
    from serving.triton.control_requests import handle
    from serving.triton.deployment import Deployer

    deployer = Deployer(server, report)
    running = Running(
        folder=str(server.control_folder),
        repository=str(server.repository),
        http_url=launched.http_url,
        grpc_url=launched.grpc_url,
        pid=os.getpid(),
        temporary=temporary,
    )
    with ControlSocket(running, lambda request, progress: handle(server, deployer, request, progress), report):
        yield


def _report(line: str) -> None:
    """One line for an event, with the time in UTC."""
    console.print(f"{_utc()} {line}", markup=False, highlight=False)


def _report_as_json(line: str) -> None:
    """The same for programs that collect logs."""
    event = {"time": _utc(), "program": "protoclip serve", "message": line}
    print(json.dumps(event, ensure_ascii=False), file=sys.stderr, flush=True)


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _announce(launched: LaunchedServer, gateways: Sequence[GatewayBeside], as_json: bool) -> None:
    for model in launched.models:
        if not model.passed:
            console.print(_warning(model.name))
    if as_json:
        facts = asdict(launched) | {"log_file": str(launched.log_file)}
        if gateways:
            facts["gateway_url"] = gateways[0].url
        print(json.dumps(facts), flush=True)
        return
    out = Console(soft_wrap=True)
    out.print(_table(launched))
    out.print(f"gRPC     {launched.grpc_url}\nHTTP     {launched.http_url}\nmetrics  {launched.metrics_url}")
    for gateway in gateways:
        out.print(f"gateway  {gateway.url}    {gateway.url}/docs lists all that it takes")
    out.print(_examples(launched), markup=False, highlight=False)
    console.print("Ctrl-C stops the server")


def _warn_of_batches(artifact: Path, engine: str | None, max_batch_size: int | None) -> None:
    """Says so where larger batches are served than were compared when the artifact was exported."""
    from protoclip.contract.manifest import load_manifest

    manifest = load_manifest(artifact)
    served = manifest.engine if engine is None else manifest.engine_named(engine)
    compared = served.verdict.largest_batch
    if compared is not None and max_batch_size is not None and max_batch_size > compared:
        console.print(
            f"[yellow]batches beyond {compared} were never compared[/]: export again with --max-batch-size "
            f"{max_batch_size}, or serve with {compared}",
        )


def _warning(name: str) -> Panel:
    return Panel(
        f"The parity verdict of {name} is FAILED: its embeddings were not shown to agree with the model they "
        "were exported from. Read the artifact's verdict.json and export again before anybody relies on it.",
        style="bold red",
    )


def _table(launched: LaunchedServer) -> Table:
    table = Table("model", "takes", "dimensions", "precision", "verdict")
    for model in launched.models:
        verdict = "passed" if model.passed else "[bold red]FAILED[/]"
        table.add_row(model.name, model.role, str(model.embedding_dim), model.precision, verdict)
    return table


def _examples(launched: LaunchedServer) -> str:
    prefixes = sorted({model.name.removesuffix(f"_{model.role}") for model in launched.models})
    options = f"--url {launched.grpc_url}" + (f" --model {prefixes[0]}" if len(prefixes) > 1 else "")
    request = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["red shoes"]}]}
    lines = [
        f"curl -d '{json.dumps(request)}' {launched.http_url}/v2/models/{model.name}/infer"
        for model in launched.models
        if model.role == "text"
    ]
    lines = [*lines[:1], f"protoclip classify PICTURE --labels cat,dog {options}"]
    lines.append(f"protoclip index build PICTURES/ my.index {options}")
    lines.append(f'protoclip search my.index --text "red shoes" {options}')
    return "\n" + "\n".join(lines)

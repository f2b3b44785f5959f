"""`protoclip deploy`: another model for a server that runs, without a gap."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import JsonOption, app, console
from .scheduling_options import (
    BulkBatchSize,
    MaxQueued,
    PreprocessInstances,
    PreprocessThreads,
    QueueDelay,
    QueueTimeout,
    scheduling_of,
)

if TYPE_CHECKING:
    from protoclip.contract.golden import Golden, GoldenBound
    from protoclip.contract.manifest import Engine, Manifest


@app.command()
def deploy(
    artifact: Annotated[Path | None, typer.Argument(help="Folder that `protoclip export` wrote.")] = None,
    url: Annotated[str | None, typer.Option(help="Which server of this machine, where several run.")] = None,
    engine: Annotated[str | None, typer.Option(help="Engine to deploy; default: the artifact's fastest.")] = None,
    canary: Annotated[
        str | None, typer.Option(help="Share of clients that get it for a trial, such as 10%; the others stay.")
    ] = None,
    promote: Annotated[bool, typer.Option("--promote", help="The canary becomes current.")] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="The canary goes; without one, back to the model before.")
    ] = False,
    remove: Annotated[
        str | None, typer.Option(help="Unload this model, such as shop_ab12cd, and delete it from the repository.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--list", help="Models that are served, and what names stand for.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="With --promote and --rollback: which name, of several.")
    ] = None,
    allow_inaccurate: Annotated[
        bool,
        typer.Option(
            "--allow-inaccurate",
            help="Deploy an engine whose parity verdict is failed: it need only be the model.",
        ),
    ] = False,
    max_batch_size: Annotated[
        int | None, typer.Option(help="Most items in a request and in a server's batch; default: 64.")
    ] = None,
    encoder_threads: Annotated[
        int, typer.Option(help="Threads of each encoder on a CPU; 0: as many as help.")
    ] = 0,
    bulk_batch_size: BulkBatchSize = None,
    queue_delay_us: QueueDelay = None,
    max_queued: MaxQueued = None,
    queue_timeout: QueueTimeout = None,
    preprocess_instances: PreprocessInstances = None,
    preprocess_threads: PreprocessThreads = None,
    as_json: JsonOption = False,
) -> None:
    """Load a model beside the one that is served, prove it, and let its name stand for it.

    Runs on the machine, and as the user, of the `protoclip serve` that it tells: by a socket in a folder that
    only that user may enter. Where any step fails, nothing changes. The model before stays loaded, for indexes
    that were made with it, until --remove.

    Example: protoclip deploy artifacts/new
    """
    from protoclip.contract.errors import ConfigError
    from serving.triton.control import ask, find_running

    request = _action(artifact, canary, promote, rollback, remove, show, name)
    if allow_inaccurate and artifact is None:
        raise ConfigError("--allow-inaccurate needs an ARTIFACT: the one whose verdict is failed")
    running = find_running(url)
    if artifact is not None:
        scheduling = scheduling_of(
            bulk_batch_size, queue_delay_us, max_queued, queue_timeout, preprocess_instances, preprocess_threads
        )
        request |= _of_artifact(artifact, engine, allow_inaccurate)
        request |= {
            "max_batch_size": max_batch_size,
            "encoder_threads": encoder_threads,
            "scheduling": None if scheduling is None else asdict(scheduling),
        }
    with console.status("deploying"):
        answer = ask(running, request, lambda line: console.print(line, highlight=False))
    if running.temporary and not show:
        console.print(
            "[yellow]the server's repository is temporary[/]: what is deployed goes with it; write one by "
            "`protoclip repository`, and serve that",
        )
    if as_json:
        typer.echo(json.dumps(answer))
        return
    typer.echo(_shown(answer))


def _action(
    artifact: Path | None,
    canary: str | None,
    promote: bool,
    rollback: bool,
    remove: str | None,
    show: bool,
    name: str | None,
) -> dict[str, Any]:
    """The request that was asked for; raises ConfigError for none, two, or options that do not belong together."""
    from protoclip.contract.errors import ConfigError

    asked = {
        "deploy": artifact is not None,
        "promote": promote,
        "rollback": rollback,
        "remove": remove is not None,
        "list": show,
    }
    actions = [action for action, is_asked in asked.items() if is_asked]
    if len(actions) != 1:
        raise ConfigError("give one of an ARTIFACT, --promote, --rollback, --remove MODEL and --list")
    if canary is not None and artifact is None:
        raise ConfigError("--canary needs an ARTIFACT: the one that a share of the clients gets")
    if name is not None and not (promote or rollback):
        raise ConfigError("--name is for --promote and --rollback: an artifact has its own name")
    request: dict[str, Any] = {"action": actions[0], "name": remove or name}
    return request | ({} if canary is None else {"canary_share": _share(canary)})


def _share(text: str) -> float:
    """`10%` or `0.1` as 0.1; raises ConfigError for what is no share above 0 and below 1."""
    from protoclip.contract.errors import ConfigError

    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ConfigError(f"--canary {text} is no share: use 1% to 99%; without it all clients get the model")
    return share


def _of_artifact(artifact: Path, engine: str | None, allow_inaccurate: bool) -> dict[str, Any]:
    """What the server has to know of it.

    Raises:
        ModelError: it can't be read, or has no such engine.
        VerdictError: the engine's verdict is failed, and that was not allowed.
    """
    from protoclip.contract.errors import VerdictError
    from protoclip.contract.manifest import load_manifest

    manifest = load_manifest(artifact)
    served = manifest.engine if engine is None else manifest.engine_named(engine)
    if not (served.verdict.passed or allow_inaccurate):
        raise VerdictError(
            f"{artifact}: the parity verdict of {served.name} is FAILED (see {served.verdict.report_file}): "
            "export it again, choose another --engine, or deploy it all the same with `--allow-inaccurate`"
        )
    golden, bound = _golden(artifact, manifest, served)
    return {
        "artifact": str(artifact.resolve()),
        "engine": engine,
        "golden": golden.model_dump(),
        "bound": bound.model_dump(),
    }


def _golden(artifact: Path, manifest: Manifest, engine: Engine) -> tuple[Golden, GoldenBound]:
    """The manifest's golden vectors; of an artifact without any, those that it gives in this process."""
    from export.parity.gates import GATES
    from protoclip.contract.golden import LEAST_CENTRED_COSINE, GoldenBound

    if manifest.golden is not None and not engine.verdict.passed:
        # The gate is known to be missed; that it is this model at all has to be shown still.
        return manifest.golden, GoldenBound(min_centred_cosine=LEAST_CENTRED_COSINE)
    if manifest.golden is not None and engine.name in manifest.golden.bounds:
        return manifest.golden, manifest.golden.bounds[engine.name]
    gate = GATES[engine.precision]
    bound = GoldenBound(max_abs_difference=gate.max_abs_difference, min_centred_cosine=gate.min_centred_cosine)
    if manifest.golden is not None:
        return manifest.golden, bound
    console.print(
        f"{artifact}: no golden vectors in its manifest, which an earlier version wrote: the server is compared "
        "with the artifact's own engine in this process; export it again to have those of the model itself",
    )
    return _computed(artifact), bound


def _computed(artifact: Path) -> Golden:
    """Golden vectors by the artifact's engine in this process; raises ModelError where none runs here."""
    import numpy as np

    from protoclip import Client
    from protoclip.contract.golden import TEXTS, GoldenVectors, golden, golden_pictures

    pictures = golden_pictures()
    with Client(str(artifact)) as client:
        image = np.asarray(client.embed_images(pictures))
        text = np.asarray(client.embed_texts(list(TEXTS)))
    return golden(pictures, GoldenVectors.of(image, image.mean(axis=0)), GoldenVectors.of(text, text.mean(axis=0)))


def _shown(answer: dict[str, Any]) -> str:
    """A line for each model, then one for each name."""
    lines = [f"{model['name']}  {model['precision']}  {model['role']}".rstrip() for model in answer["models"]]
    for name, alias in answer["aliases"].items():
        canary = f", {alias['canary']} for {alias['canary_share']:.0%} of the clients" if alias["canary"] else ""
        lines.append(f"{name} → {alias['current']}{canary}")
    return "\n".join(lines)

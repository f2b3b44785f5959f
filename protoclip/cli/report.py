"""`protoclip report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from protoclip.config.setting_types import DeviceName
from protoclip.distributed.devices import device_of

from .app import JsonOption, app, console


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder that `protoclip train` wrote, finished or not.")],
    out: Annotated[Path | None, typer.Option(help="HTML file; default: report.html in the run.")] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Pictures to embed at most, for scores, map and mistakes; 0: curves alone.")
    ] = 2000,
    device: Annotated[
        DeviceName, typer.Option(help="Where the model computes; auto: a GPU if there is one.")
    ] = "auto",
    watch: Annotated[
        bool, typer.Option("--watch", help="Write it again whenever the run has logged something, until its end.")
    ] = False,
    every_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at a watched run.")] = 30.0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write the metrics into RUN/tensorboard.")
    ] = False,
    wandb: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="Also send them to a project of Weights & Biases.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one page about a run: curves, scores, clusters, map, mistakes. Example: protoclip report runs/emoji"""
    from rich.progress import Progress

    from protoclip.run_report.page import write_run_report
    from protoclip.run_report.watching import watch_run
    from protoclip.runs.trackers import write_tensorboard, write_wandb

    with Progress(console=console, transient=True) as progress:
        found = device_of(device, f"--device {device}")
        if watch:
            console.print(f"watching {run}; Ctrl-C ends it")
            path = watch_run(run, out, every_s=every_s, num_pictures=pictures, device=found, progress=progress)
        else:
            path = write_run_report(run, out, num_pictures=pictures, device=found, progress=progress)
    if tensorboard:
        console.print(f"written to {write_tensorboard(run)}: tensorboard --logdir {run.parent}")
    if wandb is not None:
        write_wandb(run, wandb)
    if as_json:
        typer.echo(json.dumps({"report": str(path)}))
    else:
        console.print(f"written to {path}")

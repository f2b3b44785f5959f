"""`protoclip train`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from protoclip.cli.app import JsonOption, app

from .configuration import read_config
from .output import show_plan, show_trained, write_page
from .settings_list import show_settings


@app.command()
def train(
    config: Annotated[Path | None, typer.Argument(help="TOML file with the run's settings.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A table, shards, a folder of pictures with captions, or an address such as s3://bucket/shop; "
            "what a TOML file leaves open is read from it."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder to fill.")] = Path("runs/run"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: section.field=value. Repeatable.")
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="protoclip, or palm: pictures of classes, to know what is of none. Sets loss.objective."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="finetune, palm-cifar or scratch: settings below those of the file and of --set."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
    ranks: Annotated[
        int,
        typer.Option(min=1, help="Processes that train together on this machine; for several machines: torchrun."),
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check data, settings and memory, print the plan; no run is written.")
    ] = False,
    list_settings: Annotated[
        bool, typer.Option("--settings", help="Print every setting with its default and reason, and do nothing.")
    ] = False,
    report: Annotated[
        bool, typer.Option(help="Write a page about the run at its end, as `protoclip report` does.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Train a ProtoCLIP model on image-text pairs.

    Example: protoclip train --data pairs.csv --out runs/shop --set train.batch_size=128
    """
    if list_settings:
        show_settings(as_json=as_json)
        return
    if ranks > 1 and not dry_run:
        from protoclip.distributed.launch import run_on_ranks

        raise typer.Exit(run_on_ranks(ranks, _without_ranks(sys.argv[1:])))
    from protoclip.training.train import train as run_training

    overrides = [*(settings or ()), *([] if objective is None else [f"loss.objective={objective}"])]
    chosen = read_config(config, data, overrides, preset, shown=data is not None or dry_run, quiet=quiet)
    if dry_run:
        show_plan(chosen, out, resume=resume, as_json=as_json)
        return
    run = run_training(chosen, out, resume=resume, quiet=quiet)
    if os.environ.get("RANK", "0") == "0":
        page = write_page(run, chosen.train.device, quiet=quiet) if report else None
        show_trained(run, page, as_json=as_json)


def _without_ranks(words: Sequence[str]) -> list[str]:
    place = next(number for number, word in enumerate(words) if word.split("=")[0] == "--ranks")
    return [*words[:place], *words[place + (1 if "=" in words[place] else 2) :]]

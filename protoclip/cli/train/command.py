"""`protoclip train`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from protoclip.cli.app import JsonOption, app, console
from protoclip.contract.errors import ConfigError

from .output import show_plan, show_trained
from .settings_list import show_settings

if TYPE_CHECKING:
    from protoclip.config.schema import RunConfig


@app.command()
def train(
    config: Annotated[Path | None, typer.Argument(help="TOML file with the run's settings.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Instead of a TOML file: a table, or a folder of pictures with captions.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder to fill.")] = Path("runs/run"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: section.field=value. Repeatable.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="finetune or scratch: settings below those of the file and of --set.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
    ranks: Annotated[
        int,
        typer.Option(min=1, help="Processes that train together on this machine; for several machines: torchrun."),
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check data, settings and memory, print the plan, write nothing.")
    ] = False,
    list_settings: Annotated[
        bool, typer.Option("--settings", help="Print every setting with its default and reason, and do nothing.")
    ] = False,
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

    chosen = read_config(config, data, settings or (), preset)
    if dry_run:
        show_plan(chosen, out, resume=resume, as_json=as_json)
        return
    run = run_training(chosen, out, resume=resume, quiet=quiet)
    if os.environ.get("RANK", "0") == "0":
        show_trained(run, as_json=as_json)


def _without_ranks(words: Sequence[str]) -> list[str]:
    place = next(number for number, word in enumerate(words) if word.split("=")[0] == "--ranks")
    return [*words[:place], *words[place + (1 if "=" in words[place] else 2) :]]


def read_config(
    config: Path | None, data: Path | None, overrides: Sequence[str], preset: str | None = None
) -> RunConfig:
    """The run's configuration, from a file or from the data; settings chosen from the data are printed.

    Raises:
        ConfigError: both or neither are given, or a setting does not fit.
    """
    from protoclip.config.load import load_config
    from protoclip.training.defaults import config_from_data

    if data is None:
        return load_config(config, overrides, preset=preset)
    if config is not None:
        raise ConfigError(f"--data {data}: leave it out, or leave out {config}: a TOML file names its own data")
    chosen, choices = config_from_data(data, overrides, preset=preset)
    table = Table(
        "setting", "value", "why", box=None, pad_edge=False, title="read from the data; --set changes it"
    )
    for choice in choices:
        table.add_row(choice.setting, escape(_shown(choice.value)), escape(choice.reason))
    console.print(table)
    return chosen


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)

"""The configuration that `protoclip train` was asked for, and where each of its settings comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from protoclip.cli.app import console

if TYPE_CHECKING:
    from protoclip.config.schema import RunConfig
    from protoclip.training.choices import Choice


def read_config(
    config: Path | None,
    data: str | None,
    overrides: Sequence[str],
    preset: str | None = None,
    *,
    shown: bool = False,
    quiet: bool = False,
) -> RunConfig:
    """The run's configuration, from a file, from the data, or from the data what the file leaves open.

    Args:
        shown: the first rank prints every setting that is no default, and where it comes from.
        quiet: nothing says that the data is being read.

    Raises:
        ConfigError: neither is given, or a setting does not fit.
    """
    from protoclip.training.choices import config_from_file
    from protoclip.training.defaults import config_from_data

    if data is None:
        chosen, choices = config_from_file(config, overrides, preset=preset)
    else:
        with waiting_shown("reading the data", quiet=quiet or not _is_first()):
            chosen, choices = config_from_data(data, overrides, preset=preset, file=config)
    if shown and _is_first():
        print_choices(choices, console)
    return chosen


@contextmanager
def waiting_shown(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Shows on standard error that something long is going on: on a terminal at once, else a line each 30 s."""
    from protoclip.training.progress import TrainProgress

    if console.is_terminal:
        with nullcontext() if quiet else console.status(what):
            yield
        return
    with TrainProgress(quiet=quiet) as progress, progress.phase(what):
        yield


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def print_choices(choices: Iterable[Choice], output: Console) -> None:
    """As a table on a terminal, no value cut short; else a setting a line, as in TOML."""
    if not output.is_terminal:
        for choice in choices:
            line = f"{choice.setting} = {_shown(choice.value)}  # {choice.reason}"
            output.print(line, soft_wrap=True, markup=False, highlight=False)
        return
    table = Table(
        box=None, pad_edge=False, title="settings that are no defaults; --set changes them", title_justify="left"
    )
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("from", overflow="fold")
    for choice in choices:
        table.add_row(choice.setting, Text(_shown(choice.value)), Text(choice.reason))
    output.print(table)


def _shown(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)

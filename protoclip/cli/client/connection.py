"""Shared by the commands that use a server: their options, the client, and the report of failed items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from protoclip.cli.app import console
from protoclip.contract.errors import DataError, IndexFileError

if TYPE_CHECKING:
    from rich.progress import Progress

    from protoclip.client import Client
    from protoclip.contract.picture_folders import Skipped

DEFAULT_URL = "grpc://localhost:8001"
_URL_HELP = "The server: grpc://host:port or http://host:port. Or an artifact's folder, which then runs here."
UrlOption = Annotated[str, typer.Option("--url", envvar="PROTOCLIP_URL", help=_URL_HELP)]
OptionalUrlOption = Annotated[
    str | None, typer.Option("--url", envvar="PROTOCLIP_URL", help=_URL_HELP, show_default=DEFAULT_URL)
]
IndexUrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="PROTOCLIP_URL",
        help=_URL_HELP,
        show_default=f"the artifact that the index was built with, or else {DEFAULT_URL}",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", envvar="PROTOCLIP_MODEL", help="Which model, if the server offers several: emoji_ab12cd."
    ),
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", help="Seconds that the server has for a batch, retries included.")
]
DEFAULT_TIMEOUT_S = 30.0
_NUM_SHOWN = 20


@contextmanager
def connected(url: str, model: str | None, timeout_s: float) -> Iterator[Client]:
    """A client that has found its model; warns where the model's parity verdict is "failed"."""
    from protoclip.client import Client

    with Client(url, model=model, timeout_s=timeout_s) as client:
        if client.model.verdict != "passed":
            console.print(f"[bold yellow]warning:[/] the parity verdict of {client.model.prefix} is: failed")
        yield client


def url_for_index(index: Path, given: str | None) -> str:
    """The address `given`, or else the folder of the artifact that the index was built with, or else the default.

    Raises:
        IndexFileError: no index, or its artifact is not there any more.
    """
    from protoclip.search.record import load_record

    if given is not None:
        return given
    artifact = load_record(index).artifact
    if artifact is not None and not Path(artifact).is_dir():
        raise IndexFileError(
            f"{index}: was built with the artifact {artifact}, which is not there: name its folder now, or a "
            "server with its model, with --url"
        )
    return artifact or DEFAULT_URL


def new_progress() -> Progress:
    """A bar with numbers, rate and remaining time, if standard error is a terminal; removed at the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:,.0f}/s")

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def tell_left_out(
    left_out: Sequence[Skipped], num_good: int, what: str = "failed", *, items: str = "picture"
) -> None:
    """Prints failed items on standard error, the first 20 with their reasons, and their number.

    Raises:
        DataError: no item succeeded.
    """
    if len(left_out) == 1 and not num_good:
        raise DataError(f"{left_out[0].name}: {_without(left_out[0].name, left_out[0].reason)}")
    for item in left_out[:_NUM_SHOWN]:
        console.print(Text(f"{item.name}: {_without(item.name, item.reason)}"), soft_wrap=True)
    if len(left_out) > _NUM_SHOWN:
        console.print(f"… and {len(left_out) - _NUM_SHOWN} more")
    if left_out and num_good:
        console.print(f"[bold yellow]warning:[/] {len(left_out)} of {len(left_out) + num_good} {what}")
    if not num_good:
        raise DataError(
            f"all {len(left_out)} {what}" if left_out else f"there is nothing to do: no {items} was found"
        )


def as_records(left_out: Iterable[Skipped]) -> list[dict[str, str]]:
    """For JSON."""
    return [{"id": item.name, "reason": _without(item.name, item.reason)} for item in left_out]


def _without(name: str, reason: str) -> str:
    return reason.removeprefix(f"{name}: ")

"""Shared by the commands that use a server: the progress bar, and the report of failed items."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.text import Text

from protoclip.cli.app import console
from protoclip.contract.errors import DataError

if TYPE_CHECKING:
    from rich.progress import Progress

    from protoclip.contract.picture_folders import Skipped

_NUM_SHOWN = 20


def new_progress() -> Progress:
    """A bar with numbers, rate and remaining time, if standard error is a terminal; removed at the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:,.0f}/s")

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def telling_what_is_slow() -> Iterator[None]:
    """Prints in a line what an index warns of within the block: files without which it is slower."""
    from protoclip.search import AcceleratorWarning, SegmentWarning

    ours = (AcceleratorWarning, SegmentWarning)
    with warnings.catch_warnings(record=True) as told:
        for category in ours:
            warnings.simplefilter("always", category)
        yield
    for one in told:
        if issubclass(one.category, ours):
            console.print(Text.assemble(("warning:", "bold yellow"), f" {one.message}"))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


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
        console.print(Text(f"{item.name}: {_without(item.name, item.reason)}"))
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

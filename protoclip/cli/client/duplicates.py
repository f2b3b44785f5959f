"""`protoclip index duplicates`: groups of entries that are nearly the same."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from protoclip.cli.app import JsonOption, console
from protoclip.contract.errors import ConfigError

from .conditions import where_of
from .connection import new_progress
from .index import index_app

if TYPE_CHECKING:
    from protoclip.search import DuplicateGroup, Index

_NUM_SHOWN = 20


@index_app.command()
def duplicates(
    index: Annotated[Path, typer.Argument(help="Folder that `protoclip index build` wrote.")],
    threshold: Annotated[
        float, typer.Option(help="From which cosine on two entries are nearly the same; 1: but for rounding.")
    ] = 0.97,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only among the entries that fit: a condition, as of `protoclip search`. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write all groups to FILE.csv: group, id, cosine, representative.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find entries that are nearly the same, each group around the one that was added first; asks no server.

    Example: protoclip index duplicates shop.index --threshold 0.97 --out groups.csv
    """
    from protoclip.search import Index

    from .output import print_json

    if out is not None and out.suffix != ".csv":
        raise ConfigError(f"--out {out}: the groups are written as CSV: name a file like groups.csv")
    with Index.open(index) as opened:
        groups = _find(opened, threshold, where or [])
    if out is not None:
        _write(groups, out)
    num = sum(len(group.others) for group in groups)
    if as_json:
        facts = {"index": str(index), "threshold": threshold, "num_groups": len(groups), "num_duplicates": num}
        found = {"groups": [asdict(group) for group in groups]} if out is None else {"out": str(out)}
        print_json({**facts, **found})
        return
    if out is None:
        _print(groups)
    console.print(
        f"{num} entries are nearly the same as one that was added before, in {len(groups)} groups"
        + ("" if out is None else f": {out}"),
        highlight=False,
        markup=False,
    )


def _find(index: Index, threshold: float, where: Sequence[str]) -> list[DuplicateGroup]:
    with new_progress() as progress:
        task = progress.add_task("comparing", total=None)

        def show(what: str, done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return index.duplicates(threshold, where=where_of(where), progress=show)


def _write(groups: Sequence[DuplicateGroup], path: Path) -> None:
    from protoclip.contract.files import write_bytes

    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(("group", "id", "cosine", "representative"))
    for number, group in enumerate(groups):
        for hit in (group.representative, *group.others):
            rows.writerow((number, hit.id, f"{hit.score:.6f}", group.representative.id))
    # An id may be a file's name that is no UTF-8; it is printed in the same way.
    write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))


def _print(groups: Sequence[DuplicateGroup]) -> None:
    table = Table("entries", "representative", "others, nearest first")
    for group in groups[:_NUM_SHOWN]:
        others = ", ".join(f"{hit.id} ({hit.score:.3f})" for hit in group.others[:_NUM_SHOWN])
        more = f", … and {len(group.others) - _NUM_SHOWN} more" if len(group.others) > _NUM_SHOWN else ""
        table.add_row(
            str(len(group.others) + 1), Text(group.representative.id, overflow="fold"), Text(others + more)
        )
    if groups:
        Console().print(table)
    if len(groups) > _NUM_SHOWN:
        console.print(f"… and {len(groups) - _NUM_SHOWN} groups more: --out groups.csv has all", highlight=False)

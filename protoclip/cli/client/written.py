"""`--out` of `embed` and `classify`: Parquet files that a run which was killed goes on with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from protoclip.cli.app import console
from protoclip.contract.addresses import shown, url_of
from protoclip.contract.errors import ConfigError
from protoclip.contract.picture_folders import Skipped

from .connection import as_records, new_progress, tell_left_out
from .output import print_json

if TYPE_CHECKING:
    from protoclip.client import ClassBank, Client
    from protoclip.client.classification import Choice
    from protoclip.corpus.plan import Plan
    from protoclip.corpus.run import Work, WriteParts, Written

    from .inputs import Inputs

DEFAULT_PART_SIZE = 4096
PartSizeOption = Annotated[
    int,
    typer.Option(
        "--part-size", min=1, help="Items of a part of --out, which is written whole; a killed run loses one."
    ),
]


@dataclass(frozen=True)
class Summary:
    """What the command says at the end; `failed` are of this output, whenever it was written."""

    out: Path
    num_items: int
    written: Written
    failed: Sequence[Skipped]


def check_out(out: Path, others: Sequence[str] = ()) -> None:
    """Checks the name of the output before the work is done: FILE.parquet, a folder, or one of the other kinds.

    Raises:
        ConfigError: it is a URL, or ends in something else.
    """
    if url := url_of(str(out)):
        raise ConfigError(f"--out {shown(url)}: nothing is written to a URL: name a local path")
    if out.suffix not in ("", ".parquet", *others) and not out.is_dir():
        kinds = " or ".join(["FILE.parquet", *(f"FILE{other}" for other in others)])
        raise ConfigError(f"--out {out}: give {kinds}, or the name of a folder without a suffix")


def classify_into(
    client: Client, inputs: Inputs, classes: ClassBank, choice: Choice, out: Path, part_size: int
) -> Summary:
    """Writes the answers for all pictures to `out`."""
    from protoclip.client.classification import check_classes
    from protoclip.corpus.run import Work
    from protoclip.corpus.tables import answers_table

    check_classes(classes, client.model, choice)
    settings = {
        "labels_sha256": _digest([*classes.labels]),
        "templates_sha256": _digest([*classes.templates]),
        "top_k": choice.top_k,
        "threshold": choice.threshold,
    }
    plan = _plan(client, inputs, "classifications", part_size, settings)
    table = partial(answers_table, classes=classes, model=client.model, choice=choice)
    work = Work(inputs, plan, table)
    return write_summary(plan, out, partial(work.write, client=client), "picture")


def embed_into(client: Client, inputs: Inputs, out: Path, part_size: int, *, are_texts: bool) -> Summary:
    """Writes the vectors of all pictures, or texts, to `out`."""
    work = embed_work(client, inputs, part_size, are_texts=are_texts)
    return write_summary(work.plan, out, partial(work.write, client=client), "id")


def embed_work(client: Client, inputs: Inputs, part_size: int, *, are_texts: bool) -> Work:
    """What `embed` does with its items."""
    from protoclip.corpus.run import Work
    from protoclip.corpus.tables import embeddings_table

    plan = _plan(client, inputs, "embeddings", part_size, {"items": "texts" if are_texts else "pictures"})
    return Work(inputs, plan, embeddings_table, are_texts)


def print_summary(summary: Summary, as_json: bool, *, items: str = "picture") -> None:
    """How many items are where, and which failed; raises DataError where all did."""
    written, failed = summary.written, summary.failed
    num_items = written.num_now + written.num_before
    if as_json:
        facts: dict[str, Any] = {"out": str(summary.out), "items": num_items, "written_before": written.num_before}
        share = {"rank": written.rank, "num_ranks": written.num_ranks, "items_of_all_ranks": summary.num_items}
        parts = {"parts": written.num_parts, "parts_there": written.parts_there}
        print_json({**facts, **share, **parts, "errors": as_records(failed)})
    else:
        before = f", {written.num_before:,} of them from an earlier run" if written.num_before else ""
        Console(soft_wrap=True).print(Text(f"{_share(summary, items)} in {summary.out}{before}"))
    _tell_what_is_missing(written)
    if num_items:
        tell_left_out(failed, num_items - len(failed), items=items)


def _share(summary: Summary, items: str) -> str:
    """A share is called one, so that nobody takes it for the whole."""
    written = summary.written
    num_items = written.num_now + written.num_before
    if written.num_ranks == 1:
        return f"{num_items:,} {items}s"
    return f"rank {written.rank} of {written.num_ranks}: {num_items:,} of {summary.num_items:,} {items}s"


def _tell_what_is_missing(written: Written) -> None:
    if written.parts_there < written.num_parts:
        console.print(
            f"[bold yellow]warning:[/] {written.parts_there:,} of {written.num_parts:,} parts are there: the "
            f"others are those of other ranks, as RANK={written.rank} and WORLD_SIZE={written.num_ranks} of the "
            "environment say; where no other rank runs, unset both, and the same command writes the rest",
            highlight=False,
        )


def _plan(client: Client, inputs: Inputs, contents: Any, part_size: int, settings: dict[str, Any]) -> Plan:
    from protoclip.corpus.plan import Plan, check_some, digest_of, items_digest

    from .input_files import facts_of_files

    check_some(inputs, "item")
    return Plan(
        contents=contents,
        model=client.model.prefix,
        fingerprint=client.model.fingerprint,
        num_items=len(inputs),
        items_sha256=items_digest(inputs),
        files_sha256=digest_of(facts_of_files(inputs)),
        part_size=part_size,
        settings={**inputs.settings, **settings},
    )


def write_summary(plan: Plan, out: Path, write: WriteParts, names: str) -> Summary:
    """Writes the plan's parts with a progress bar; `names` is the column with the items' names."""
    from protoclip.corpus.failures import read_failures
    from protoclip.corpus.run import write_corpus

    with new_progress() as progress:
        task = progress.add_task("embedding", total=plan.num_items)
        written = write_corpus(
            plan, out, write, lambda what, done, total: progress.update(task, completed=done, total=total)
        )
    return Summary(out, plan.num_items, written, read_failures(written.files, names))


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()

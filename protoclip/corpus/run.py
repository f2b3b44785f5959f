"""A run over many items: what of its plan is not written yet is embedded, and written part by part."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoclip.client import Client, Embeddings
from protoclip.contract.errors import ConfigError
from protoclip.contract.progress import Progress

from .embedding import EmbeddedPart, embed_parts
from .parts import (
    PartsFolder,
    alone_in,
    check_written,
    find_plan,
    join_parts,
    remove_temporary_of,
    remove_without_plan,
)
from .plan import Items, Plan


@dataclass(frozen=True)
class Work:
    """What is done with items.

    Attributes:
        items: all of them, those of other ranks too.
        plan: of these items.
        table: the Arrow table of a part.
        are_texts: whether items are texts, and else pictures.
    """

    items: Items
    plan: Plan
    table: Callable[[EmbeddedPart], Any]
    are_texts: bool = False

    def write(self, folder: PartsFolder, parts: Sequence[int], client: Client) -> Iterator[int]:
        """Embeds and writes the given parts, and yields the number of items of each when it is there.

        Raises:
            ServerError: as the client, or the client has another model than that of the plan meanwhile.
        """
        stream: Callable[[Iterable[Any]], Iterator[Embeddings]]
        stream = client.stream_texts if self.are_texts else client.stream_images
        for part in embed_parts(self.items, parts, self.plan, stream, client.model.embedding_dim):
            folder.write(part.part, self.table(part))
            yield len(part.names)


WriteParts = Callable[[PartsFolder, Sequence[int]], Iterator[int]]
"""Writes parts, in any order, and yields the number of items of each when it is there: `Work.write`."""


@dataclass(frozen=True)
class Written:
    """What a run wrote.

    Attributes:
        files: Parquet files, in order: one, or the parts of this rank.
        num_now: how many items were done by this run.
        num_before: how many of its own were there already, as an earlier run had written them.
        rank, num_ranks: which share this is.
        num_parts: of all ranks.
        parts_there: how many of them are there now.
    """

    files: tuple[Path, ...]
    num_now: int
    num_before: int
    rank: int = 0
    num_ranks: int = 1
    num_parts: int = 0
    parts_there: int = 0


def write_corpus(plan: Plan, out: Path, write: WriteParts, progress: Progress) -> Written:
    """Writes this rank's parts into the folder `out`, or all of them and then one file where it ends in .parquet.

    RANK and WORLD_SIZE of the environment, as torchrun sets them, say which parts are this rank's; ranks need
    not hear of each other. A run that was killed goes on where it stood, with as many ranks as it likes.

    Args:
        write: called with the folder and the parts that are missing.

    Raises:
        ConfigError: `out` was begun with another plan, holds something else, or is one file for several ranks.
        DataError: a part that was written is damaged.
        ProtoclipError: another run writes there, or it can't be written.
        ServerError: as the client; and whatever `write` raises.
    """
    from pyarrow import parquet  # noqa: F401 - where it is missing, that is told before the work

    rank, num_ranks = rank_of_environment()
    is_file = out.suffix == ".parquet"
    if is_file and out.is_dir():
        raise ConfigError(f"--out {out}: is a folder: give a name without .parquet, or that of a file")
    if is_file and num_ranks > 1:
        raise ConfigError(
            f"--out {out}: {num_ranks} ranks write a folder of files: give a name without .parquet, or unset RANK "
            "and WORLD_SIZE where this is the only process"
        )
    if is_file and out.is_file():
        check_written(out, plan)
        _remove_leftovers(out, plan)
        return Written((out,), 0, plan.num_items, num_parts=plan.num_parts, parts_there=plan.num_parts)
    folder = PartsFolder(parts_of(out) if is_file else out, plan)
    with alone_in(folder, shared=num_ranks > 1):
        folder.remove_temporary(rank, num_ranks)
        missing = folder.missing(rank, num_ranks)
        own = sum(len(plan.rows(part)) for part in range(rank, plan.num_parts, num_ranks))
        now = sum(len(plan.rows(part)) for part in missing)
        done = own - now
        progress("writing", done, own)
        for count in write(folder, missing) if missing else ():
            done += count
            progress("writing", done, own)
        # A worker elsewhere may have been killed, and its part be written by another one.
        folder.remove_temporary(rank, num_ranks)
        there = folder.num_there()
        if is_file:
            remove_temporary_of(out)
            join_parts(folder, out)
    files = [out] if is_file else [folder.part_path(part) for part in range(rank, plan.num_parts, num_ranks)]
    return Written(tuple(files), now, own - now, rank, num_ranks, plan.num_parts, there)


def parts_of(out: Path) -> Path:
    """The folder in which the parts of a file are, until they are all there."""
    return out.with_name(f"{out.name}.parts")


def rank_of_environment() -> tuple[int, int]:
    """This process's rank and their number: RANK and WORLD_SIZE; 0 and 1 where they aren't set.

    Raises:
        ConfigError: they are no numbers that fit.
    """
    given = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    try:
        rank, num_ranks = int(given[0]), int(given[1])
    except ValueError:
        rank, num_ranks = -1, 0
    if not 0 <= rank < num_ranks:
        raise ConfigError(f"RANK={given[0]} and WORLD_SIZE={given[1]} of the environment don't fit: unset them")
    return rank, num_ranks


def _remove_leftovers(out: Path, plan: Plan) -> None:
    """A run may be killed when its file is there and its parts are, too."""
    remove_temporary_of(out)
    left = find_plan(parts_of(out))
    if left == plan:
        PartsFolder(parts_of(out), plan).remove()
    elif left is None:
        remove_without_plan(parts_of(out))

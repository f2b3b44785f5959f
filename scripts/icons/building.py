"""From sets and icons to the corpus on disk, in blocks: what a stopped start has finished is not made again."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from protoclip.contract.files import write_text
from protoclip.contract.picture_folders import Skipped
from protoclip.sources.left_out import counts_by_reason, write_left_out
from scripts.build_corpus.sources import SourceError

from .drawing import SIZE, Drawn, drawn_by
from .forms import read_names, write_parquet, write_shard
from .progress import counted
from .sets import Icon, IconSet, read_sets

# To be raised where other icons are chosen, or are drawn or written otherwise.
RULES = 1


@dataclass(frozen=True)
class Block:
    """Some of the icons, and the two files that they become."""

    icons: Sequence[Icon]
    parquet: Path
    shard: Path

    @property
    def is_done(self) -> bool:
        """Whether both files are there; each is written whole or not at all."""
        return self.parquet.exists() and self.shard.exists()


def made_with(package_sha256: str, block_pairs: int) -> dict[str, Any]:
    """What the bytes of the corpus depend on."""
    packages = {name: version(name) for name in ("resvg-py", "pillow", "pyarrow")}
    return {"package_sha256": package_sha256, "rules": RULES, "size": SIZE, "block_pairs": block_pairs, **packages}


def is_finished(out: Path, made: Mapping[str, Any]) -> bool:
    """Whether the whole corpus is in `out`, which is claimed for what is `made` there otherwise.

    Raises:
        SourceError: something else is, whole or in part.
    """
    claim = out / "made_with.json"
    if claim.exists() and (found := json.loads(claim.read_text("utf-8"))) != made:
        differs = ", ".join(f"{k}: {found.get(k)}, now {v}" for k, v in made.items() if found.get(k) != v)
        raise SourceError(f"{out}: was made with something else ({differs}): remove it, or name another --out")
    if not claim.exists():
        write_text(claim, json.dumps(made, indent=2) + "\n")
    return (out / "licences.csv").exists() and _num_missing(out) == 0


def _num_missing(out: Path) -> int:
    """How many files of a finished corpus have been taken away; their names say how many there were."""
    there = list((out / "parquet").glob("*.parquet"))
    num_blocks = int(there[0].stem.rpartition("-")[2]) if there else 1
    return 2 * num_blocks - len(there) - len(list((out / "shards").glob("*.tar")))


def build(files: Iterable[Mapping[str, Any]], out: Path, num_workers: int, block_pairs: int) -> None:
    """Writes `parquet/` and `shards/`, then `left_out.csv` and, last, `licences.csv` into `out`."""
    sets, icons = read_sets(files)
    print(f"{len(icons):,} icons of {len({icon.set for icon in icons})} sets to draw", file=sys.stderr)
    blocks = blocks_of(icons, out, block_pairs)
    with workers(num_workers) as executor:
        _write(blocks, len(icons), executor)
        left_out = _left_out(icons, blocks, executor)
    write_left_out(left_out, out / "left_out.csv")
    missing = {skipped.name for skipped in left_out}
    kept = [icon for icon in icons if icon.key not in missing]
    write_text(out / "licences.csv", licences_table(sets, kept))
    print(summary(kept, left_out), file=sys.stderr)


def blocks_of(icons: Sequence[Icon], out: Path, block_pairs: int) -> list[Block]:
    """Blocks of `block_pairs` icons, the last one smaller."""
    starts = range(0, len(icons), block_pairs)
    return [
        Block(
            icons[start : start + block_pairs],
            out / "parquet" / f"{number:05d}-of-{len(starts):05d}.parquet",
            out / "shards" / f"{number:05d}.tar",
        )
        for number, start in enumerate(starts)
    ]


@contextmanager
def workers(number: int) -> Iterator[Executor]:
    """Processes that end with this one, however it ends."""
    with ProcessPoolExecutor(number, get_context("spawn"), initializer=_follow_parent) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _follow_parent() -> None:
    """A worker leaves Ctrl-C, which reaches all processes of a terminal, to its parent, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def end_with_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()


def _write(blocks: Sequence[Block], total: int, executor: Executor) -> None:
    missing = [block for block in blocks if not block.is_done]
    done = total - sum(len(block.icons) for block in missing)
    if not missing:
        return
    drawn = (picture for block in missing for picture in drawn_by(executor, block.icons))
    pictures = counted(drawn, total, done, "drawing")
    for block in missing:
        found = [(icon, next(pictures)) for icon in block.icons]
        kept = [(icon, drawn.png) for icon, drawn in found if not drawn.reason]
        write_parquet(kept, block.parquet)
        write_shard(kept, block.shard)


def _left_out(icons: Sequence[Icon], blocks: Sequence[Block], executor: Executor) -> list[Skipped]:
    """The icons that are in no file, drawn once more for the reason: a block may be of an earlier start."""
    there = set(read_names(block.parquet for block in blocks))
    missing = [icon for icon in icons if icon.key not in there]
    found: Iterable[Drawn] = drawn_by(executor, missing)
    return [Skipped(icon.key, drawn.reason) for icon, drawn in zip(missing, found, strict=True)]


def licences_table(sets: Sequence[IconSet], kept: Sequence[Icon]) -> str:
    """CSV of all sets, those whose licence is not kept with 0 pictures."""
    pictures = Counter(icon.set for icon in kept)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ("set", "title", "author", "author_url", "license", "license_url", "kept", "icons", "pictures")
    )
    for s in sets:
        facts = (s.prefix, s.title, s.author, s.author_url, s.license, s.license_url)
        writer.writerow((*facts, "yes" if s.is_kept else "no", s.num_icons, pictures[s.prefix]))
    return stream.getvalue()


def summary(kept: Sequence[Icon], left_out: Sequence[Skipped]) -> str:
    """Counts in a few lines."""
    splits = Counter(icon.split for icon in kept)
    lines = [
        f"{len(kept):,} pictures of {len({i.set for i in kept})} sets, {len({i.name for i in kept}):,} names",
        ", ".join(f"{split}: {count:,}" for split, count in sorted(splits.items())),
    ]
    if left_out:
        lines.append(f"{len(left_out):,} left out, see left_out.csv: {counts_by_reason(left_out)}")
    return "\n".join(lines)

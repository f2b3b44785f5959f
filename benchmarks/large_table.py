"""Millions of rows: how long a dry run takes, how much memory, and what ranks and workers share.

    python benchmarks/large_table.py --rows 15000000 --result benchmarks/large_table_2cores_202611.md

The table is made up: paths that lead nowhere and captions that are all different. Each measurement is a process of
its own; its memory is the largest resident size, mapped pages of the table included. What processes share is the
sum of their proportional sizes (Pss of /proc/PID/smaps_rollup): a page that n processes have counts 1/n for each.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

from protoclip.config.schema import DataConfig, RunConfig
from protoclip.data.holdout import split_pairs
from protoclip.data.table import load_pairs
from protoclip.sources import Pairs
from protoclip.sources.columns import num_texts

RANKS, WORKERS = 4, 2


def main() -> None:
    """Makes the table, measures, and writes the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=15_000_000)
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_table(folder, given.rows)
        lines = [dry_run(folder, table, what) for what in ("first start", "second start", "third start")]
        alone, together = shared_memory(folder, table)
        size = table.stat().st_size
    text = report(given.rows, size, lines, alone, together)
    print(text)
    if given.result is not None:
        given.result.write_text(text)


def write_table(folder: Path, num_rows: int) -> Path:
    """A CSV file of `num_rows` made-up rows, every third caption with a comma in quotes."""
    path = folder / "pairs.csv"
    with path.open("w") as stream:
        stream.write("image,text\n")
        for row in range(num_rows):
            text = f"a picture of thing number {row} in the colour {row % 97}"
            text = f'"{text}, seen again"' if row % 3 == 0 else text
            stream.write(f"images/{row // 10_000:05d}/{row:09d}.jpg,{text}\n")
    return path


def dry_run(folder: Path, table: Path, what: str) -> dict[str, float | str]:
    """`protoclip train --data TABLE --dry-run` in a process of its own: seconds, CPU seconds, largest MiB."""
    command = [sys.executable, "-m", "protoclip", "train", "--data", str(table), "--dry-run", "--json"]
    command += ["--out", str(folder / "run"), "--set", f"data.cache_dir={folder / 'cache'}"]
    command += ["--set", "validation.fraction=0"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    plan = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    # Exit code 2: of paths that lead nowhere no picture can be read.
    assert os.waitstatus_to_exitcode(status) in (0, 2), what
    return {
        "what": what,
        "pairs": plan["data"]["pairs"],
        "seconds": time.perf_counter() - started,
        "cpu": usage.ru_utime + usage.ru_stime,
        "mib": usage.ru_maxrss / 1024,
    }


def shared_memory(folder: Path, table: Path) -> tuple[float, float]:
    """MiB of one process that has looked at every row, and of `RANKS` with `WORKERS` each that have done so."""
    return _measured(folder, table, 1, 0), _measured(folder, table, RANKS, WORKERS)


def _measured(folder: Path, table: Path, num_ranks: int, num_workers: int) -> float:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(num_ranks * (1 + num_workers) + 1)
    queue = context.Queue()
    ranks = [
        context.Process(target=_rank, args=(str(folder), str(table), num_workers, barrier, queue))
        for _ in range(num_ranks)
    ]
    for rank in ranks:
        rank.start()
    pids = [queue.get() for _ in range(num_ranks * (1 + num_workers))]
    barrier.wait()
    total = sum(_proportional_mib(pid) for pid in pids)
    barrier.wait()
    for rank in ranks:
        rank.join()
    return total


def _rank(folder: str, table: str, num_workers: int, barrier: Barrier, queue: multiprocessing.Queue[int]) -> None:
    config = RunConfig(
        data=DataConfig(path=(table,), cache_dir=str(Path(folder) / "cache")),
        validation={"fraction": 0.1},
        train={"steps": 1},
    )
    pairs, _ = split_pairs(load_pairs(config.data), config)
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_work, args=(pairs, barrier, queue)) for _ in range(num_workers)]
    for worker in workers:
        worker.start()
    _look(pairs, barrier, queue)
    for worker in workers:
        worker.join()


def _work(pairs: Pairs, barrier: Barrier, queue: multiprocessing.Queue[int]) -> None:
    # As the loader's workers do, see `protoclip.data.workers`.
    gc.freeze()
    _look(pairs, barrier, queue)


def _look(pairs: Pairs, barrier: Barrier, queue: multiprocessing.Queue[int]) -> None:
    assert num_texts(pairs.texts) >= len(pairs)
    assert all(len(own) for own in pairs.texts)
    for row in range(0, len(pairs), 20):
        assert pairs.images[row]
    queue.put(os.getpid())
    barrier.wait()
    barrier.wait()


def _proportional_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def report(rows: int, size: int, lines: list[dict[str, float | str]], alone: float, together: float) -> str:
    """The result as Markdown."""
    load = os.getloadavg()[0]
    table = "\n".join(
        f"| {line['what']} | {line['pairs']:,} | {line['seconds']:.1f} | {line['cpu']:.1f} | {line['mib']:,.0f} |"
        for line in lines
    )
    return f"""# Tables of millions of rows

`python benchmarks/large_table.py --rows {rows}`: a CSV file of {rows:,} made-up rows ({size / 1e6:,.0f} MB), paths
that lead nowhere and captions that are all different; `protoclip train --data … --dry-run`.
{os.cpu_count()} cores, no GPU; load of the machine at the end {load:.1f}.

| dry run | pairs | seconds | CPU seconds | largest MiB |
|---|---|---|---|---|
{table}

Proportional memory after every process has looked at every text and every twentieth path:

| processes | MiB | of one |
|---|---|---|
| one | {alone:,.0f} | 1.00 |
| {RANKS} ranks with {WORKERS} workers each | {together:,.0f} | {together / alone:.2f} |
"""


if __name__ == "__main__":
    main()

"""Times means by label and K-means side by side in one process, and compares K-means' inertia with faiss'.

    python benchmarks/clustering.py --result benchmarks/clustering_2cores_202611.md

Rows are unit vectors, `unstructured` (in all directions alike) or `clustered` (around as many centres as there
are clusters to find). Runs of what is compared alternate; seconds are medians. Two ranks are two processes of
one thread each, joined by gloo.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import torch
from torch import Tensor
from torch.nn.functional import normalize

from protoclip.config.schema import ClusteringConfig
from protoclip.contract.files import write_text
from protoclip.distributed import collectives
from protoclip.prototypes.clustering import cluster
from protoclip.prototypes.lloyd import assign
from protoclip.prototypes.means import cluster_means

ROWS, WIDTH, CLUSTERS = 200_000, 128, 20_000
LOOP_SAMPLE = 100
ITERATION_ROWS = 40_000
ITERATIONS, RESTARTS, SIDES = 20, 3, 2
SEEDS = (0, 10)


@dataclass(frozen=True)
class Case:
    """K-means on `rows` unit vectors [rows, width]."""

    kind: str
    rows: int
    width: int
    clusters: int
    restarts: int
    ranks: int = 1


CASES = (
    Case("clustered", 5_000, 64, 50, 5),
    Case("unstructured", 5_000, 64, 50, 5),
    Case("clustered", 5_000, 64, 500, 3),
    Case("unstructured", 5_000, 64, 500, 3),
    Case("unstructured", 5_000, 64, 500, 3, ranks=2),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--result", type=Path, help="Markdown file to write")
    parser.add_argument("--rounds", type=int, default=5, help="runs of the means by label")
    parser.add_argument("--iterations", type=int, default=1, help="runs of one iteration at the full size")
    parser.add_argument("--rank-case", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank_case is not None:
        run_as_rank(CASES[arguments.rank_case])
        return
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    faiss.omp_set_num_threads(cores)
    text = heading(cores, os.getloadavg()[0])
    for part in (
        lambda: means_table(arguments.rounds),
        lambda: iteration_table(arguments.iterations),
        inertia_table,
    ):
        text += "\n" + part() + "\n"
        print(text, flush=True)
        if arguments.result is not None:
            write_text(arguments.result, text)


def unit_rows(kind: str, rows: int, width: int, clusters: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    noise = normalize(torch.randn(rows, width, generator=draw), dim=1)
    if kind == "unstructured":
        return noise
    centres = normalize(torch.randn(clusters, width, generator=draw), dim=1)
    return normalize(centres[torch.randint(clusters, (rows,), generator=draw)] + 0.7 * noise, dim=1)


def alternate(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each work in each round, after a round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def means_table(rounds: int) -> str:
    rows = unit_rows("unstructured", ROWS, WIDTH, CLUSTERS)
    labels = torch.randint(CLUSTERS, (ROWS,), generator=torch.Generator().manual_seed(1))

    def loop() -> None:
        for k in range(LOOP_SAMPLE):
            rows[labels == k].mean(dim=0)

    found = alternate(
        {
            "cluster_means: exact, the same bits in any order": lambda: cluster_means(rows, labels, CLUSTERS),
            "float32 index_add_: sums alone": lambda: torch.zeros(CLUSTERS, WIDTH).index_add_(0, labels, rows),
            f"Python loop over clusters, extrapolated from {LOOP_SAMPLE}": loop,
        },
        rounds,
    )
    lines = [
        "## Means by label (prototypical back translation)",
        f"{ROWS:,} × {WIDTH} rows, {CLUSTERS:,} clusters, {rounds} rounds.",
        "",
        "| what | median s | least s | most s |",
        "|---|---|---|---|",
    ]
    for name, seconds in found.items():
        factor = CLUSTERS / LOOP_SAMPLE if "extrapolated" in name else 1
        middle, least, most = (factor * f(seconds) for f in (statistics.median, min, max))
        lines.append(f"| {name} | {middle:.3f} | {least:.3f} | {most:.3f} |")
    return "\n".join(lines)


def k_means(case: Case, backend: str, points: Tensor, seed: int) -> dict[str, float]:
    config = ClusteringConfig(num_iterations=ITERATIONS, num_restarts=case.restarts, backend=backend)
    started = time.perf_counter()
    found = cluster(points, case.clusters, config, seed)
    return {"inertia": found.inertia, "seconds": time.perf_counter() - started}


def inertia_table() -> str:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    lines = [
        "## K-means against faiss",
        f"{ITERATIONS} iterations, the same points and restarts; inertia summed over {len(SEEDS)} seeds, seconds "
        "their medians. One thread a process; two ranks hold a third and two thirds of the points.",
        "",
        "| points | rows | clusters | restarts | ranks | inertia ours / faiss | s ours | s faiss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for number, case in enumerate(CASES):
        points = unit_rows(case.kind, case.rows, case.width, case.clusters)
        theirs, ours = [], [] if case.ranks == 1 else on_ranks(number)
        for seed in SEEDS:
            theirs.append(k_means(case, "faiss", points, seed))
            if case.ranks == 1:
                ours.append(k_means(case, "lloyd", points, seed))
        ratio = sum(run["inertia"] for run in ours) / sum(run["inertia"] for run in theirs)
        times = [statistics.median(run["seconds"] for run in runs) for runs in (ours, theirs)]
        lines.append(
            f"| {case.kind} | {case.rows:,} × {case.width} | {case.clusters:,} | {case.restarts} | {case.ranks} | "
            f"{ratio:.4f} | {times[0]:.2f} | {times[1]:.2f} |"
        )
    return "\n".join(lines)


def on_ranks(number: int) -> list[dict[str, float]]:
    """Runs a case of `CASES` on its ranks, and returns what the first of them printed."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, f"--nproc-per-node={CASES[number].ranks}", __file__, "--rank-case", str(number)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    runs: list[dict[str, float]] = json.loads(done.stdout)
    return runs


def run_as_rank(case: Case) -> None:
    torch.set_num_threads(1)
    points = unit_rows(case.kind, case.rows, case.width, case.clusters)
    with collectives.ranks():
        own = points[: len(points) // 3] if collectives.is_first() else points[len(points) // 3 :]
        runs = [k_means(case, "lloyd", own, seed) for seed in SEEDS]
        if collectives.is_first():
            print(json.dumps(runs))


def iteration_table(rounds: int) -> str:
    points = unit_rows("unstructured", ITERATION_ROWS, WIDTH, CLUSTERS)
    start = points[:CLUSTERS].clone()
    machine = faiss.Kmeans(WIDTH, CLUSTERS, niter=1, nredo=1, min_points_per_centroid=1)
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: cluster_means(points, assign(points, start)[0], CLUSTERS),
        "faiss": lambda: machine.train(points.numpy(), init_centroids=start.numpy()),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    runs = ITERATIONS * RESTARTS * SIDES
    lines = [
        "## One iteration at the paper's size",
        f"{ROWS:,} × {WIDTH} unstructured rows, {CLUSTERS:,} clusters, {rounds} rounds; extrapolated from "
        f"{ITERATION_ROWS:,} rows. The cost of a pair is "
        f"derived: {ITERATIONS} iterations × {RESTARTS} restarts × {SIDES} sides, over {ROWS:,} pairs.",
        "",
        "| what | median s | least s | ms a pair |",
        "|---|---|---|---|",
    ]
    for name, found in seconds.items():
        found = [value * ROWS / ITERATION_ROWS for value in found]
        middle = statistics.median(found)
        lines.append(f"| {name} | {middle:.1f} | {min(found):.1f} | {1000 * middle * runs / ROWS:.1f} |")
    return "\n".join(lines)


def heading(cores: int, load: float) -> str:
    return (
        "# Means by label, and K-means\n"
        f"`make clustering-benchmark`: {time.strftime('%B %Y')}, {cores} cores ({processor()}), "
        f"Python {platform.python_version()}, torch {torch.__version__}, faiss {faiss.__version__}, "
        f"{platform.system()}. Load by others at the start: {load:.1f}.\n"
    )


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    main()

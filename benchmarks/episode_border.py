"""How long the first step of an episode waits for its batch, beside how long a step takes.

    python benchmarks/episode_border.py --result benchmarks/episode_border_2cores_202611.md

A small run on the bundled corpus, its pictures read anew each time, so that a worker has something to do; between
two episodes features are clustered. The wait is `data_wait_s` of the first step of each episode but the first, for
which nothing could be prepared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

from protoclip.config.load import build_config
from protoclip.runs.metrics import read_metrics
from protoclip.training.train import train

SOURCES = ("extract", "stream")


def main() -> None:
    """Trains with both sources of prototypes, and writes the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(source, measured(Path(folder) / source, source)) for source in SOURCES]
    text = report(rows)
    print(text)
    if given.result is not None:
        given.result.write_text(text)


def measured(run: Path, source: str) -> list[dict[str, float]]:
    """The steps of a run of five episodes of ten batches of 128, a log line each."""
    corpus = str(files("protoclip") / "demo" / "corpus" / "*.parquet")
    config = {
        "data": {"path": [corpus], "text_columns": ["texts"], "cache_mb": 0},
        "model": {"name": "protoclip-mini-48", "head": {"hidden_dim": 256, "projection_dim": 64}},
        "prototypes": {"source": source},
        "episode": {"size": 1280},
        "clustering": {"num_prototypes": 64},
        "train": {"steps": 50, "batch_size": 128, "num_workers": 1, "log_every_steps": 1},
    }
    train(build_config(config, "episode_border"), run, quiet=True)
    return [line for line in read_metrics(run) if line["kind"] == "step"]


def row(source: str, steps: list[dict[str, float]]) -> str:
    """A line of the table."""
    borders = list(pairwise(steps))
    inside = [later["seconds"] - one["seconds"] for one, later in borders if one["episode"] == later["episode"]]
    first = [later["data_wait_s"] for one, later in borders if one["episode"] != later["episode"]]
    step = statistics.median(inside)
    waits = ", ".join(f"{1000 * wait:.1f}" for wait in first)
    return f"| {source} | {1000 * step:,.0f} | {waits} | {max(first) / step:.3f} |"


def report(rows: list[str]) -> str:
    """The result as Markdown."""
    table = "\n".join(rows)
    return f"""# The first batch of an episode

`python benchmarks/episode_border.py`: protoclip-mini-48, the bundled corpus read anew at each visit, one worker,
batches of 128, episodes of 1,280 pairs. {os.cpu_count()} cores, no GPU; load at the end {os.getloadavg()[0]:.1f}.

| prototypes from | a step, median ms | waits of the first steps of episodes 1 to 4, ms | the longest, of a step |
|---|---|---|---|
{table}
"""


if __name__ == "__main__":
    main()

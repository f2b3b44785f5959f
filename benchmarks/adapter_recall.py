"""What an adapter says of its recall, beside what searches of the whole index then lose.

    python benchmarks/adapter_recall.py OLD_ARTIFACT NEW_ARTIFACT PICTURES --captions caption

Builds an index with the old model, embeds all of it with the new one, and maps it after fits on fewer and more
entries. Queries of the last columns are pictures and captions of entries that the map was not fitted on, among all
entries.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protoclip.client import Client
from protoclip.contract.files import write_text
from protoclip.contract.manifest import load_manifest
from protoclip.search import AdapterOptions, Entry, Index
from protoclip.search.adapter_recall import Recall, measure_recall
from protoclip.sources import ReadOptions

QUERIES = 1000


def entries_of(path: Path) -> tuple[list[Entry], NDArray[np.float32]]:
    """All entries, and their vectors `[N, D]`."""
    with Index.open(path) as index:
        entries = list(index.iterate())
    return entries, np.stack([entry.vector for entry in entries])


def moved(index: Path, folder: Path, new: Client, options: AdapterOptions | None) -> tuple[Path, float]:
    """A copy of the index with the new model, and the seconds that it took."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "x.index"
    shutil.copytree(index, path)
    began = time.perf_counter()
    with Index.open(path) as opened:
        opened.migrate(new, adapter=options)
    return path, time.perf_counter() - began


def whole(mapped: Path, truth: NDArray[np.float32], new: Client, field: str) -> tuple[Recall, Recall]:
    """Recall of searches by entries and by texts among all, of entries that were mapped."""
    entries, vectors = entries_of(mapped)
    rows = np.array([row for row, entry in enumerate(entries) if entry.mapped])
    asked = np.sort(np.random.default_rng(1).permutation(rows)[:QUERIES])
    texts = [str(np.ravel(entries[row].metadata[field])[0]) for row in asked]
    by_text = np.asarray(new.embed_texts(texts))
    return measure_recall(truth[asked], truth, vectors, asked), measure_recall(by_text, truth, vectors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("pictures")
    parser.add_argument("--captions", default="caption")
    parser.add_argument("--fit-on", type=int, nargs="+", default=[500, 1000, 2000, 4000])
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as name, Client(given.old) as old, Client(given.new) as new:
        folder = Path(name)
        reading = ReadOptions((given.pictures,), texts=False, split="all", decoded_here=False)
        Index.build(folder / "old.index", old, reading).close()
        path, all_s = moved(folder / "old.index", folder, new, None)
        entries, truth = entries_of(path)
        for fit_on in given.fit_on:
            options = AdapterOptions("all", fit_on, min_recall=0, captions=given.captions)
            path, taken_s = moved(folder / "old.index", folder, new, options)
            with Index.open(path) as index:
                said = index.adapter
            assert said is not None
            assert said.by_text is not None
            by_entry, by_text = whole(path, truth, new, given.captions)
            cells = [f"{one.mean:.3f} ({one.low:.3f}–{one.high:.3f})" for one in (said.by_entry, said.by_text)]
            cells += [f"{one.mean:.3f} ({one.low:.3f}–{one.high:.3f})" for one in (by_entry, by_text)]
            lines.append(f"| {fit_on} | {said.method} | {' | '.join(cells)} | {taken_s:.0f} s |")
        dims = f"{load_manifest(Path(given.old)).embedding_dim} to {new.model.embedding_dim}"
    page = (
        f"# What an adapter loses\n`python benchmarks/adapter_recall.py OLD NEW PICTURES`: Python "
        f"{platform.python_version()}, NumPy {np.__version__}. {len(entries):,} pictures, {dims} dimensions; "
        f"embedding all again took {all_s:.0f} s.\n\nRecall@10 with a 95 % interval: as the adapter says it, "
        "among the entries that it was fitted on, and of searches of the whole index by entries not fitted on."
        "\n\n"
        "| fitted on | map | by picture | by text | by picture, whole | by text, whole | time |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n"
    )
    print(page)
    if given.result is not None:
        write_text(given.result, page)


if __name__ == "__main__":
    main()

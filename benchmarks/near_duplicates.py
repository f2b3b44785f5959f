"""Near-duplicates among many entries: time, memory, and whether the planted ones are found.

    python benchmarks/near_duplicates.py --count 100000 --dim 512

A tenth of the entries are copies of earlier ones with some noise, so that their cosine with these is about 0.99.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from protoclip.contract.files import write_text
from protoclip.search import Index

FINGERPRINT = "0123456789abcdef"
NOISE = 0.14
CHUNK = 20_000


def fill(path: Path, count: int, dim: int) -> dict[str, str]:
    """An index, and the id of the original of each copy."""
    rng = np.random.default_rng(0)
    originals: dict[str, str] = {}
    with Index.create(path, FINGERPRINT, dim) as index:
        for start in range(0, count, CHUNK):
            number = min(CHUNK, count - start)
            rows = rng.standard_normal((number, dim)) + 1.0
            copies = np.arange(1, number, 10)
            noise = rng.standard_normal((len(copies), dim))
            lengths = [np.linalg.norm(made, axis=1, keepdims=True) for made in (rows[copies - 1], noise)]
            rows[copies] = rows[copies - 1] + NOISE * noise * lengths[0] / lengths[1]
            index.add(rows, [str(row) for row in range(start, start + number)])
            originals |= {str(start + row): str(start + row - 1) for row in copies}
    return originals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        originals = fill(Path(folder) / "x.index", given.count, given.dim)
        with Index.open(Path(folder) / "x.index") as index:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            began, used = time.perf_counter(), time.process_time()
            groups = index.duplicates(0.97)
            taken, cpu = time.perf_counter() - began, time.process_time() - used
    found = {hit.id: group.representative.id for group in groups for hit in group.others}
    right = found == originals
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    page = (
        f"# Near-duplicates among {given.count:,} entries of {given.dim} dimensions\n"
        f"`python benchmarks/near_duplicates.py --count {given.count} --dim {given.dim}`: Python "
        f"{platform.python_version()}, NumPy {np.__version__}, {os.cpu_count()} cores.\n\n"
        f"{taken:.0f} s, {cpu:.0f} s of CPU. {len(found):,} entries are nearly the same as one before, in "
        f"{len(groups):,} groups; {'these are' if right else 'THESE ARE NOT'} the {len(originals):,} that were "
        f"planted, with their originals. Resident at most {peak / 1024:.0f} MB, {before / 1024:.0f} MB of it "
        "before (the index was made in the same process).\n"
    )
    print(page)
    if given.result is not None:
        write_text(given.result, page)
    if not right:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

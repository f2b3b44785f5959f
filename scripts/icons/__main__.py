"""Command line: `python -m scripts.icons`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from protoclip.contract.errors import ProtoclipError
from scripts.build_corpus.sources import Package, SourceError, opened

from .building import build, is_finished, made_with
from .sets import ICONIFY, json_files

ROOT = Path(__file__).parents[2]
BLOCK_PAIRS = 8192


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.icons", description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache/corpus", help="where npm's tarballs lie")
    parser.add_argument("--out", type=Path, default=ROOT / ".cache/icons", help="where to write")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that draw")
    options = parser.parse_args()
    try:
        make(options.cache, options.out, options.workers)
    except (SourceError, ProtoclipError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: the next start goes on with the block that was not finished", file=sys.stderr)
        return 130
    return 0


def make(
    cache: Path, out: Path, num_workers: int, package: Package = ICONIFY, block_pairs: int = BLOCK_PAIRS
) -> None:
    """Fetches the package where it is missing in `cache`, and writes what is missing in `out`.

    Raises:
        SourceError: the package can't be fetched, or `out` holds what was made with something else.
        ProtoclipError: `out` can't be written.
    """
    if is_finished(out, made_with(package.sha256, block_pairs)):
        print(f"{out}: is whole, nothing to do", file=sys.stderr)
        return
    with opened(package, cache) as archive:
        build(json_files(archive), out, num_workers, block_pairs)


if __name__ == "__main__":
    raise SystemExit(main())

"""Pictures that are far from a corpus of drawings: textures and noise by script, line icons, and photographs.

    python benchmarks/far_pictures.py --out .cache/far_strangers

Writes a folder for each kind, after `make icons`, and with scikit-image's wheel in .cache/photographs.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from pathlib import Path

import numpy as np
from far_made import noise, textures
from far_taken import Taken, line_icons, photographs

from protoclip.contract.errors import DataError, ProtoclipError

ROOT = Path(__file__).parents[1]
SCRIPT = ("benchmarks/far_made.py", "Apache-2.0", "this project")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / ".cache/far_strangers", help="folder to write")
    parser.add_argument("--icons", type=Path, default=ROOT / ".cache/icons/parquet", help="of `make icons`")
    parser.add_argument(
        "--photographs", type=Path, default=ROOT / ".cache/photographs", help="where the wheel lies"
    )
    parser.add_argument("--count", type=int, default=400, help="pictures of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    options = parser.parse_args()
    try:
        make(options.out, options.icons, options.photographs, options.count, options.seed)
    except ProtoclipError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def make(out: Path, icons: Path, wheel: Path, count: int = 400, seed: int = 0) -> None:
    """Writes a folder of pictures for each kind, and SOURCES.csv; all of it or nothing.

    The same seed, icons and packages give the same pictures.

    Raises:
        DataError: `out` is there already, or icons or photographs are missing.
        OSError: `out` can't be written.
    """
    if out.exists():
        raise DataError(f"{out}: is there already: remove it first")
    draw = np.random.default_rng(seed)
    kinds = {
        "textures": Taken(textures(draw, count), [SCRIPT]),
        "noise": Taken(noise(draw, count), [SCRIPT]),
        "line_icons": line_icons(icons, draw, count),
        "photographs": photographs(wheel, draw, count),
    }
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for kind, taken in kinds.items():
        (unfinished / kind).mkdir(parents=True)
        for number, picture in enumerate(taken.pictures):
            (unfinished / kind / f"{number:05}.png").write_bytes(picture)
    with open(unfinished / "SOURCES.csv", "w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("kind", "source", "license", "author"))
        rows.writerows((kind, *source) for kind, taken in kinds.items() for source in taken.sources)
    unfinished.rename(out)


if __name__ == "__main__":
    raise SystemExit(main())

"""Class folders of PNG from the binary version of CIFAR-10 or CIFAR-100; the Python version is pickled.

    python benchmarks/cifar_folders.py cifar-100-binary cifar100

Writes cifar100/train/CLASS/00001.png and cifar100/test/CLASS/… A record is one label (CIFAR-100: the coarse one
before the fine one, which is taken) and 3,072 bytes: red, green and blue, each 32 × 32 row by row.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protoclip.contract.errors import DataError, ProtoclipError

SIDE = 32


@dataclass(frozen=True)
class Form:
    """How one of the two is stored: labels before each picture, of which the last counts, and its files."""

    num_labels: int
    names: str
    train: str
    test: str


FORMS = (
    Form(1, "batches.meta.txt", "data_batch_*.bin", "test_batch.bin"),
    Form(2, "fine_label_names.txt", "train.bin", "test.bin"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path, help="folder with the .bin files")
    parser.add_argument("out", type=Path, help="folder to write")
    options = parser.parse_args()
    try:
        convert(options.binary, options.out)
    except ProtoclipError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def convert(binary: Path, out: Path) -> None:
    """Writes all of it or nothing.

    Raises:
        DataError: `binary` holds neither of the two, or is damaged, or `out` is there.
        OSError: `out` can't be written.
    """
    if out.exists():
        raise DataError(f"{out}: is there already: remove it first")
    form = next((form for form in FORMS if (binary / form.names).is_file()), None)
    if form is None:
        wanted = " or ".join(form.names for form in FORMS)
        raise DataError(f"{binary}: holds no {wanted}: name the folder of CIFAR's binary version")
    names = (binary / form.names).read_text(encoding="utf-8").split()
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for split, pattern in (("train", form.train), ("test", form.test)):
        for name in names:
            (unfinished / split / name).mkdir(parents=True)
        for number, (label, pixels) in enumerate(_records(binary, pattern, form, names)):
            Image.fromarray(pixels).save(unfinished / split / names[label] / f"{number:05}.png")
    unfinished.rename(out)


def _records(binary: Path, pattern: str, form: Form, names: list[str]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Labels, and pictures `[32, 32, 3]`."""
    paths = sorted(binary.glob(pattern))
    if not paths:
        raise DataError(f"{binary}: holds no {pattern}")
    for path in paths:
        content = np.fromfile(path, dtype=np.uint8)
        size = form.num_labels + 3 * SIDE * SIDE
        if not len(content) or len(content) % size:
            raise DataError(f"{path}: {len(content)} bytes are no whole records of {size}: fetch it again")
        for record in content.reshape(-1, size):
            label = int(record[form.num_labels - 1])
            if label >= len(names):
                raise DataError(f"{path}: label {label} is beyond the {len(names)} names of {form.names}")
            yield label, record[form.num_labels :].reshape(3, SIDE, SIDE).transpose(1, 2, 0)


if __name__ == "__main__":
    raise SystemExit(main())

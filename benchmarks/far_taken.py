"""Strangers that others made: line icons of `make icons`, and crops of photographs that two packages carry.

Only what anybody may use is taken: icons of sets under MIT, ISC or Apache-2.0, photographs in the public domain,
under CC0, or under CC BY 2.0. Nothing of it is in the repository.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from far_made import SIZE, encoded
from PIL import Image

from protoclip.contract.errors import DataError

LINE_SETS = ("feather", "hugeicons", "icon-park-outline", "iconoir", "lucide", "tabler")
"""Drawn in lines of one width, in black on white."""
WHEEL = "scikit_image-*.whl"
CC0, PUBLIC_DOMAIN, CC_BY = "CC0-1.0", "public domain", "CC-BY-2.0"
IN_WHEEL: Mapping[str, tuple[str, str]] = {
    "astronaut.png": (PUBLIC_DOMAIN, "NASA"),
    "brick.png": (CC0, "CC0Textures"),
    "camera.png": (CC0, "Lav Varshney"),
    "chelsea.png": (CC0, "Stefan van der Walt"),
    "clock_motion.png": (PUBLIC_DOMAIN, "Stefan van der Walt"),
    "coffee.png": (CC0, "Rachel Michetti"),
    "grass.png": (CC0, "linolafett"),
    "gravel.png": (CC0, "CC0Textures"),
    "hubble_deep_field.jpg": (PUBLIC_DOMAIN, "NASA"),
    "retina.jpg": (CC0, "Mikael Häggström"),
    "rocket.jpg": (PUBLIC_DOMAIN, "SpaceX"),
}
"""Of scikit-image, with licence and author as the docstrings of `skimage.data` say."""
IN_SCIKIT_LEARN: Mapping[str, tuple[str, str]] = {
    "china.jpg": (CC_BY, "danielbuechele"),
    "flower.jpg": (CC_BY, "vultilion"),
}
"""Of scikit-learn, as `sklearn/datasets/images/README.txt` says."""
_CROP = (0.05, 0.5)
"""Area of a crop, as a part of the photograph."""


@dataclass(frozen=True)
class Taken:
    """Pictures of one kind, and a line about each source: what, licence, author."""

    pictures: list[bytes]
    sources: list[tuple[str, str, str]]


def line_icons(folder: Path, draw: np.random.Generator, count: int) -> Taken:
    """By lot among the icons of LINE_SETS.

    Args:
        folder: Parquet files that `make icons` wrote.

    Raises:
        DataError: there are not so many.
    """
    from pyarrow import compute, parquet

    found: list[bytes] = []
    licences: dict[str, str] = {}
    for path in sorted(folder.glob("*.parquet")):
        table = parquet.read_table(path, columns=["image", "set", "license"])
        for row in table.filter(compute.field("set").isin(LINE_SETS)).to_pylist():
            found.append(row["image"]["bytes"])
            licences[row["set"]] = row["license"]
    if len(found) < count:
        raise DataError(f"{folder}: holds {len(found)} icons of the sets {', '.join(LINE_SETS)}: run `make icons`")
    chosen = draw.permutation(len(found))[:count]
    sources = [(name, licence, "licences.csv of `make icons`") for name, licence in sorted(licences.items())]
    return Taken([found[place] for place in chosen], sources)


def photographs(folder: Path, draw: np.random.Generator, count: int) -> Taken:
    """Square crops of 5 to 50 % of each photograph in turn, scaled to 64 × 64.

    Args:
        folder: where the wheel of scikit-image lies.

    Raises:
        DataError: it isn't there, or lacks a photograph.
    """
    read = list(_photographs(folder))
    pictures = [_crop(read[place % len(read)][1], draw) for place in range(count)]
    return Taken(pictures, [(name, *(IN_WHEEL | IN_SCIKIT_LEARN)[name]) for name, _ in read])


def _photographs(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    wheel = max(folder.glob(WHEEL), default=None)
    if wheel is None:
        raise DataError(f"{folder}: no {WHEEL} is there: fetch it with `pip download --no-deps scikit-image`")
    with zipfile.ZipFile(wheel) as archive:
        for name in IN_WHEEL:
            try:
                content = archive.read(f"skimage/data/{name}")
            except KeyError:
                raise DataError(f"{wheel}: holds no skimage/data/{name}: fetch scikit-image 0.26") from None
            yield name, Image.open(io.BytesIO(content)).convert("RGB")
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("scikit-learn, which carries two photographs, is not installed")
    for name in IN_SCIKIT_LEARN:
        path = Path(package.submodule_search_locations[0]) / "datasets" / "images" / name
        yield name, Image.open(io.BytesIO(path.read_bytes())).convert("RGB")


def _crop(photograph: Image.Image, draw: np.random.Generator) -> bytes:
    width, height = photograph.size
    edge = min(int(np.sqrt(draw.uniform(*_CROP) * width * height)), width, height)
    left, top = (int(draw.integers(0, length - edge + 1)) for length in (width, height))
    part = photograph.crop((left, top, left + edge, top + edge)).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return encoded(np.asarray(part, dtype=np.float64))

"""Decoded pictures: cached in memory where they fit, else read again each time. `N` pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped
from protoclip.contract.pixels import PictureError, PixelSpec, Reduced, decode_reduced
from protoclip.sources import Pairs
from protoclip.sources.row_choice import AllBut, Rows, all_rows

from .reduction import no_reduction

Progress = Callable[[Iterable[str | None], int], Iterable[str | None]]
Reduction = Callable[[int, int], int]
_SAMPLE = 32
_THREADS = 4
_LEFT_OUT_BEFORE = "could not be read when the run began, and stays left out"
_NO_IMAGE = Image.new("RGB", (1, 1))


@dataclass(frozen=True)
class _Kept:
    """A picture's pixels [H, W, 3], which processes share, and what else is known of it."""

    pixels: NDArray[np.uint8]
    picture: Reduced


class Pictures:
    """The pictures of `pairs` as RGB.

    Args:
        reduction: width and height of a picture → by which factor it may be reduced, 1, 2, 4 or 8.
        cache_mb: decoded pictures are kept if all of them, estimated from a sample, fit in this; they are
            decoded by `load_all`, before worker processes start, so that these share the memory.
    """

    def __init__(self, pairs: Pairs, spec: PixelSpec, cache_mb: int, reduction: Reduction = no_reduction) -> None:
        self._pairs, self._spec, self._reduction = pairs, spec, reduction
        self._cache: dict[int, _Kept] = {}
        self.cached = cache_mb > 0 and len(pairs) > 0 and self._estimate_bytes() <= cache_mb * 2**20

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, index: int) -> Reduced:
        """One RGB picture, the same whether it is cached or not.

        Raises:
            DataError: its file can't be read.
            PictureError: it is broken or beyond a limit.
        """
        kept = self._cache.get(index)
        if kept is not None:
            return replace(kept.picture, image=Image.fromarray(kept.pixels))
        return decode_reduced(self._pairs.read_image(index), self._spec, self._reduction)

    def skipped(self, index: int, reason: str) -> Skipped:
        """A picture that `read` failed on, by its file or its row in the data."""
        return _skipped(self._pairs, index, reason)

    def select(self, rows: Rows) -> Pictures:
        """The given rows in their order, with their cached pictures."""
        chosen = Pictures(self._pairs.select(rows), self._spec, cache_mb=0, reduction=self._reduction)
        if self._cache:
            places = enumerate(np.asarray(rows).tolist())
            chosen._cache = {place: self._cache[row] for place, row in places if row in self._cache}
        chosen.cached = self.cached
        return chosen

    def load_all(self, progress: Progress) -> dict[int, str]:
        """Decodes every picture, keeps it if `cached`, and returns the reason for each that can't be read.

        Args:
            progress: wraps the iterable of N results.
        """
        with ThreadPoolExecutor(_THREADS) as pool:
            outcomes = progress(pool.map(self._try, range(len(self))), len(self))
            return {index: reason for index, reason in enumerate(outcomes) if reason is not None}

    def _try(self, index: int) -> str | None:
        try:
            picture = self.read(index)
        except (DataError, PictureError) as error:
            return reason_of(self._pairs, index, error)
        if self.cached:
            self._cache[index] = _Kept(np.asarray(picture.image), replace(picture, image=_NO_IMAGE))
        return None

    def _estimate_bytes(self) -> int:
        sizes = []
        for index in np.unique(np.linspace(0, len(self) - 1, _SAMPLE).astype(int)):
            try:
                picture = self.read(int(index))
            except (DataError, PictureError):
                continue
            sizes.append(picture.image.width * picture.image.height * 3)
        return int(np.mean(sizes) * len(self)) if sizes else 0


def readable_pictures(
    pairs: Pairs,
    spec: PixelSpec,
    cache_mb: int,
    progress: Progress,
    reduction: Reduction = no_reduction,
    left_out_before: Sequence[int] = (),
) -> tuple[Pictures, Rows, tuple[Skipped, ...]]:
    """The pictures that can be read, their rows in `pairs`, and those that can't, with the reasons.

    Where the decoded pictures don't fit in `cache_mb`, none is checked and all are returned.

    Args:
        left_out_before: rows of pictures that a resumed run left out: they stay out, also if they are mended.

    Raises:
        DataError: not one can be read.
    """
    pictures = Pictures(pairs, spec, cache_mb, reduction)
    broken = dict.fromkeys((row for row in left_out_before if row < len(pairs)), _LEFT_OUT_BEFORE)
    broken |= pictures.load_all(progress) if pictures.cached else {}
    broken = dict(sorted(broken.items()))
    if not broken:
        return pictures, all_rows(len(pairs)), ()
    first = next(iter(broken))
    if len(broken) == len(pairs):
        raise DataError(f"data.path: none of the {len(pairs)} pictures can be read; the first: {broken[first]}")
    keep = AllBut(np.array(list(broken)), len(pairs))
    left_out = tuple(_skipped(pairs, row, reason) for row, reason in broken.items())
    return pictures.select(keep), keep, left_out


def _skipped(pairs: Pairs, row: int, reason: str) -> Skipped:
    name = pairs.picture_place(row)
    return Skipped(name, reason.removeprefix(f"{name}: "))


def reason_of(pairs: Pairs, index: int, error: DataError | PictureError) -> str:
    """Why a picture can't be read, and where it lies, which a DataError says by itself."""
    return f"{pairs.picture_place(index)}: {error}" if isinstance(error, PictureError) else str(error)

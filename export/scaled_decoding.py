"""Whether an artifact's embeddings stay what they are when pictures are decoded at a part of their size.

`N` pictures, `D` embedding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.parity.compare import Comparison, compare
from export.parity.gates import GATES, missed_thresholds
from protoclip.contract.errors import DataError, ModelError
from protoclip.contract.manifest import Engine, Manifest, load_manifest
from protoclip.contract.pixels import PictureError, PixelSpec, decode_reduced, load_pixels
from protoclip.contract.scaled_pixels import load_scaled_pixels, scale_factor

from .listed_engines import open_listed

MIN_PICTURES, MAX_PICTURES = 64, 256
_BATCH = 16


@dataclass(frozen=True)
class ScaledVerdict:
    """What was found; `missed` are thresholds of the 8-bit engines' gate, in words, none where it passed."""

    engine: str
    found: Comparison
    missed: tuple[str, ...]

    def to_text(self) -> str:
        """As it stands among a served model's parameters."""
        return json.dumps(
            {
                "engine": self.engine,
                "pictures": self.found.num_inputs,
                "min_centred_cosine": self.found.min_centred_cosine,
                "mean_centred_cosine": self.found.mean_centred_cosine,
                "error_to_neighbour": self.found.error_to_neighbour,
                "gate": "int8",
            }
        )


def judge_scaled_decoding(folder: Path, engine: str | None, pictures: Iterable[bytes]) -> ScaledVerdict:
    """Compares embeddings of pictures decoded whole and scaled, by the gate of 8-bit engines.

    Only pictures count that are large enough to be decoded smaller, the first 256 of them.

    Args:
        engine: the one that is served; of a plan the comparison is by an ONNX engine of the artifact.

    Raises:
        ModelError: no artifact, or no engine that runs here.
        DataError: fewer than 64 pictures can be decoded smaller.
    """
    manifest = load_manifest(folder)
    judge = _runnable(manifest, manifest.engine if engine is None else manifest.engine_named(engine))
    chosen = _larger_ones(pictures, manifest.pixels)
    encode = open_listed(folder, judge).image
    whole, scaled = (_embed(encode, chosen, manifest.pixels, load) for load in (load_pixels, load_scaled_pixels))
    found = compare(whole, scaled)
    return ScaledVerdict(judge.name, found, tuple(missed_thresholds(found, GATES["int8"])))


def _runnable(manifest: Manifest, engine: Engine) -> Engine:
    for candidate in (engine, *manifest.engines):
        if candidate.format in ("onnx", "openvino"):
            return candidate
    raise ModelError(f"engine {engine.name} is a plan, and the artifact has no ONNX engine to compare with")


def _larger_ones(pictures: Iterable[bytes], spec: PixelSpec) -> list[bytes]:
    found: list[bytes] = []
    read = 0
    for data in pictures:
        read += 1
        if _is_larger(data, spec):
            found.append(data)
        if len(found) == MAX_PICTURES:
            break
    if len(found) < MIN_PICTURES:
        raise DataError(
            f"--scaled-decoding: {len(found)} of {read} pictures are so large that they would be decoded smaller "
            f"for {spec.width} x {spec.height}: give {MIN_PICTURES} or more such pictures, or leave it out"
        )
    return found


def _is_larger(data: bytes, spec: PixelSpec) -> bool:
    try:
        return decode_reduced(data, spec, lambda width, height: scale_factor(width, height, spec)).factor > 1
    except PictureError:
        return False


def _embed(
    encode: Callable[[NDArray[np.uint8]], NDArray[np.floating]],
    pictures: Sequence[bytes],
    spec: PixelSpec,
    load: Callable[[bytes, PixelSpec], NDArray[np.uint8]],
) -> NDArray[np.floating]:
    parts = [
        encode(np.stack([load(data, spec) for data in pictures[start : start + _BATCH]]))
        for start in range(0, len(pictures), _BATCH)
    ]
    return np.concatenate(parts)

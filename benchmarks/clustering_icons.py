"""K-means as training does it, on an episode of the paper's size of real pictures and texts.

    make icons
    OMP_NUM_THREADS=1 python benchmarks/clustering_icons.py .cache/icons/parquet --prototypes 2000

No model: the features are projections of grey pictures of 16 × 16 pixels and of the texts' three-letter pieces:
the clustering alone is measured, on data that has clusters. One line of JSON for the features and for each side.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image

from protoclip.config.schema import ClusteringConfig
from protoclip.prototypes.clustering import cluster

BATCH, WIDTH, PIECES = 256, 128, 4096
Features = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the Parquet folder of make icons")
    parser.add_argument("--size", type=int, default=200_000, help="pairs, of which whole batches of 256 are taken")
    parser.add_argument("--prototypes", type=int, default=2000)
    parser.add_argument("--restarts", type=int, default=1, help="training does 3")
    options = parser.parse_args()
    config = ClusteringConfig(num_restarts=options.restarts)
    count = options.size // BATCH * BATCH
    began, cpu = time.monotonic(), time.process_time()
    sides = dict(zip(("image", "text"), read_features(options.data, count), strict=True))
    tell(began, cpu, what="features", pairs=len(sides["image"]))
    for seed, (side, features) in enumerate(sides.items()):
        began, cpu = time.monotonic(), time.process_time()
        found = cluster(torch.from_numpy(features), options.prototypes, config, seed)
        facts = {"inertia": found.inertia, "empty": found.num_empty, "split": found.num_split}
        tell(began, cpu, what=side, prototypes=options.prototypes, **facts)


def read_features(folder: Path, count: int) -> tuple[Features, Features]:
    """Of the first pairs, at most `count`: [n, WIDTH] of the pictures and of the texts, unit norm."""
    draws = np.random.default_rng(0)
    of_pixels = draws.standard_normal((256, WIDTH)).astype(np.float32)
    of_pieces = draws.standard_normal((PIECES, WIDTH)).astype(np.float32)
    pixels: list[NDArray[np.uint8]] = []
    texts: list[Features] = []
    for path in sorted(folder.glob("*.parquet")):
        table = pq.read_table(path, columns=["image", "text"], use_threads=False)
        pixels += [_pixels(png.as_py()) for png in table["image"].combine_chunks().field("bytes")]
        texts += [of_pieces[_pieces(text)].sum(axis=0) for text in table["text"].to_pylist()]
    grey = np.stack(pixels[:count]).astype(np.float32)
    return _unit((grey - grey.mean(axis=0)) @ of_pixels), _unit(np.stack(texts[:count]))


def _pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("L").reduce(4)).ravel()


def _pieces(text: str) -> list[int]:
    padded = f" {text} ".encode()
    return [zlib.crc32(padded[i : i + 3]) % PIECES for i in range(len(padded) - 2)]


def _unit(rows: Features) -> Features:
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6)


def tell(began: float, cpu: float, **facts: object) -> None:
    """Prints the facts with what they took since then; `peak_mb` is of the process so far."""
    spent = {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({**facts, **spent, "peak_mb": peak_mb}), flush=True)


if __name__ == "__main__":
    main()

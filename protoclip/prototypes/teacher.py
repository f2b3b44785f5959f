"""External teachers: fixed features of every pair, clustered once over the data.

`N` training pairs, `n` of them this rank's, `F` the features' dimensions.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protoclip.config.schema import ClusteringConfig, TeacherConfig
from protoclip.contract.errors import ConfigError, DataError
from protoclip.distributed import collectives
from protoclip.sources import Pairs

from .clustering import cluster
from .keyed_features import KeyedFeatures

_CHUNK_NUMBERS = 2**24
_PER_ROOT = 3.36


def load_teacher(config: TeacherConfig, pairs: Pairs, own: slice = slice(None)) -> NDArray[np.float32] | None:
    """The teacher's features of the pairs `own`, [n, F], or None where no teacher is configured.

    A `.npy` array has one row for each row of the data, including those left out of training: another split,
    a validation part, a broken picture. It is mapped, so that only the pairs' rows are read. A Parquet file is
    joined with the data on the column `teacher.key_column` and holds the vectors in its column `feature`.

    Raises:
        ConfigError: Parquet without a key column, or another kind of file.
        DataError: no such file, a pair without a feature or with two, NaN, or another number of rows.
    """
    if config.path is None:
        return None
    path = Path(config.path)
    if not path.is_file():
        raise DataError(f"teacher.path: {path}: no such file")
    if path.suffix == ".parquet":
        if config.key_column is None:
            raise ConfigError("teacher.key_column is needed with a Parquet teacher: name the column to join on")
        features = KeyedFeatures(path, config.key_column).of(pairs.column(config.key_column)[own])
    else:
        features = _read_npy(path, pairs, own)
    if not _is_finite(features):
        raise DataError(f"teacher.path: {path}: holds NaN or infinity")
    return features


def own_run(num_pairs: int) -> slice:
    """This rank's share of the pairs.

    Consecutive, not every nth: the ids of K-means depend on the order of the points over all ranks.
    """
    own = torch.arange(num_pairs).tensor_split(collectives.world_size())[collectives.rank()]
    return slice(int(own[0]), int(own[-1]) + 1) if len(own) else slice(0)


def num_teacher_prototypes(config: TeacherConfig, num_pairs: int) -> int:
    """`teacher.num_prototypes`, or where that is none 3.36 · √N of `num_pairs`, at least 2 and at most N.

    The factor is that of the two numbers that were tried and worked: 300 for 7,968 pairs, and 1,000 for 89,000.
    """
    return config.num_prototypes or min(num_pairs, max(2, round(_PER_ROOT * math.sqrt(num_pairs))))


def teacher_labels(
    features: NDArray[np.float32],
    num_pairs: int,
    config: TeacherConfig,
    clustering: ClusteringConfig,
    seed: int,
    device: torch.device | None = None,
) -> NDArray[np.int32]:
    """y_ext: the cluster of each pair, [N]. Done once: the teacher never changes.

    Args:
        features: [n, F], of the pairs `own_run(num_pairs)`.
        num_pairs: N.

    Raises:
        ConfigError: more clusters than pairs.
    """
    num_clusters = num_teacher_prototypes(config, num_pairs)
    if num_clusters > num_pairs:
        raise ConfigError(
            f"teacher.num_prototypes={num_clusters} needs at least {num_clusters} pairs, "
            f"but there are {num_pairs}: lower it"
        )
    points = torch.from_numpy(features).to(device)
    found = cluster(points, num_clusters, clustering, seed).clusters.labels.to(torch.int32)
    own = torch.arange(num_pairs, device=points.device)[own_run(num_pairs)]
    return collectives.fill(found, own, num_pairs).cpu().numpy()


def _is_finite(features: NDArray[np.float32]) -> bool:
    rows = max(1, _CHUNK_NUMBERS // max(1, features.shape[1]))
    return all(np.isfinite(features[first : first + rows]).all() for first in range(0, len(features), rows))


def _read_npy(path: Path, pairs: Pairs, own: slice) -> NDArray[np.float32]:
    if path.suffix != ".npy":
        raise ConfigError(f"teacher.path: {path}: use a .parquet or a .npy file")
    try:
        # Private pages that could be written: torch warns of an array that can't be.
        features: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"teacher.path: {path}: can't be read: {error}") from error
    if features.ndim != 2 or len(features) != pairs.num_read:
        raise DataError(
            f"teacher.path: {path}: shape {features.shape} does not fit the data: "
            f"one feature for each of its {pairs.num_read} rows is needed, [{pairs.num_read}, F]"
        )
    rows = pairs.places[own]
    is_run = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all())
    chosen = features[rows[0] : rows[-1] + 1] if is_run else features[rows]
    return np.ascontiguousarray(chosen.astype(np.float32, copy=False))

"""External teachers: fixed features of every pair, clustered once over the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from protoclip.config.schema import ClusteringConfig, TeacherConfig
from protoclip.contract.errors import ConfigError, DataError
from protoclip.data.table import Pairs
from protoclip.distributed import collectives

from .clustering import cluster


def load_teacher(config: TeacherConfig, pairs: Pairs) -> NDArray[np.float32] | None:
    """The teacher's feature of each pair, `[N, F]`, or None where no teacher is configured.

    A `.npy` array has one row for each row of the data, including those left out of training: another split,
    a validation part, a broken picture. A Parquet file is joined with the data on the column
    `teacher.key_column` and holds the vectors in its column `feature`.

    Raises:
        ConfigError: Parquet without a key column, or another kind of file.
        DataError: no such file, a pair without a feature, NaN, or another number of rows than the data.
    """
    if config.path is None:
        return None
    path = Path(config.path)
    if not path.is_file():
        raise DataError(f"teacher.path: {path}: no such file")
    by_key = path.suffix == ".parquet"
    features = _read_parquet(path, config.key_column, pairs) if by_key else _read_npy(path, pairs)
    if not np.isfinite(features).all():
        raise DataError(f"teacher.path: {path}: holds NaN or infinity")
    return features


def teacher_labels(
    features: NDArray[np.float32],
    config: TeacherConfig,
    clustering: ClusteringConfig,
    seed: int,
    device: torch.device | None = None,
) -> NDArray[np.int64]:
    """y_ext: the cluster of each pair, [N]. Done once: the teacher never changes.

    Raises:
        ConfigError: more clusters than pairs.
    """
    if config.num_prototypes > len(features):
        raise ConfigError(
            f"teacher.num_prototypes={config.num_prototypes} needs at least {config.num_prototypes} pairs, "
            f"but there are {len(features)}: lower it"
        )
    # Runs of rows, not every nth: the ids of K-means depend on the order of the points over all ranks.
    own = torch.arange(len(features)).tensor_split(collectives.world_size())[collectives.rank()]
    points = torch.from_numpy(features)[own].to(device)
    found = cluster(points, config.num_prototypes, clustering, seed).clusters.labels
    return collectives.fill(found, own.to(device), len(features)).cpu().numpy()


def _read_npy(path: Path, pairs: Pairs) -> NDArray[np.float32]:
    if path.suffix != ".npy":
        raise ConfigError(f"teacher.path: {path}: use a .parquet or a .npy file")
    try:
        features = np.load(path, allow_pickle=False).astype(np.float32)
    except (OSError, ValueError) as error:
        raise DataError(f"teacher.path: {path}: can't be read: {error}") from error
    if features.ndim != 2 or len(features) != pairs.num_read:
        raise DataError(
            f"teacher.path: {path}: shape {features.shape} does not fit the data: "
            f"one feature for each of its {pairs.num_read} rows is needed, [{pairs.num_read}, F]"
        )
    return features[pairs.places]


def _read_parquet(path: Path, key_column: str | None, pairs: Pairs) -> NDArray[np.float32]:
    import pyarrow as pa
    from pyarrow import parquet

    if key_column is None:
        raise ConfigError("teacher.key_column is needed with a Parquet teacher: name the column to join on")
    try:
        table = parquet.read_table(path, columns=[key_column, "feature"])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"teacher.path: {path}: can't be read: {str(error).splitlines()[0]}") from error
    if len(table.column_names) != 2:
        raise DataError(f"teacher.path: {path}: needs the columns {key_column!r} and 'feature'")
    row_of = {str(key): row for row, key in enumerate(table.column(key_column).to_pylist())}
    keys = [str(key) for key in pairs.column(key_column)]
    missing = next((key for key in keys if key not in row_of), None)
    if missing is not None:
        raise DataError(f"teacher.path: {path}: no feature for {key_column} = {missing!r}")
    try:
        features = np.array(table.column("feature").to_pylist(), dtype=np.float32)
    except (TypeError, ValueError):
        features = np.empty(0, dtype=np.float32)
    if features.ndim != 2:
        raise DataError(f"teacher.path: {path}: the column 'feature' needs lists of numbers, all of one length")
    return features[[row_of[key] for key in keys]]

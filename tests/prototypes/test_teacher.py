from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from protoclip.config.schema import ClusteringConfig, TeacherConfig
from protoclip.contract.errors import ConfigError, DataError
from protoclip.data.table import Pairs
from protoclip.prototypes.teacher import load_teacher, teacher_labels

PAIRS = Pairs(
    images=[b""] * 4, texts=(("x",),) * 4, columns={"kind": np.array(["b", "a", "b", "c"], dtype=object)}
)


def write(tmp_path: Path, keys: list[str]) -> Path:
    path = tmp_path / "teacher.parquet"
    features = np.arange(2 * len(keys), dtype=np.float32).reshape(-1, 2)
    parquet.write_table(pa.table({"kind": keys, "feature": features.tolist()}), path)
    return path


def teacher(path: Path, key: str | None = "kind") -> TeacherConfig:
    return TeacherConfig(path=str(path), key_column=key, num_prototypes=2)


def test_parquet_joins_by_key(tmp_path: Path) -> None:
    features = load_teacher(teacher(write(tmp_path, ["a", "b", "c", "unused"])), PAIRS)
    np.testing.assert_array_equal(features, [[2, 3], [0, 1], [2, 3], [4, 5]])


def test_npy_goes_by_row(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.eye(4, 3))
    features = load_teacher(teacher(tmp_path / "t.npy", None), PAIRS)
    assert features is not None
    np.testing.assert_array_equal(features, np.eye(4, 3))
    assert features.dtype == np.float32


def test_npy_has_the_rows_that_are_left_out_too(tmp_path: Path) -> None:
    """Another split, a validation part and broken pictures: nobody knows beforehand which rows stay."""
    np.save(tmp_path / "t.npy", np.eye(4, 3))
    some = PAIRS.select(np.array([3, 0, 2])).select(np.array([True, False, True]))
    np.testing.assert_array_equal(load_teacher(teacher(tmp_path / "t.npy", None), some), np.eye(4, 3)[[3, 2]])


def test_no_teacher_is_none() -> None:
    assert load_teacher(TeacherConfig(), PAIRS) is None


def test_equal_features_share_a_label() -> None:
    features = np.repeat(np.array([[0, 0], [9, 9]], dtype=np.float32), 5, axis=0)
    labels = teacher_labels(features, TeacherConfig(num_prototypes=2), ClusteringConfig(), seed=0)
    assert len(set(labels[:5])) == len(set(labels[5:])) == 1
    assert labels[0] != labels[5]


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no feature for kind = 'c'"):
        load_teacher(teacher(write(tmp_path, ["a", "b"])), PAIRS)
    with pytest.raises(ConfigError, match=r"teacher\.key_column is needed"):
        load_teacher(teacher(tmp_path / "teacher.parquet", None), PAIRS)
    with pytest.raises(DataError, match=r"teacher\.parquet: (can't be read|needs the columns)"):
        load_teacher(teacher(tmp_path / "teacher.parquet", "colour"), PAIRS)
    np.save(tmp_path / "short.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"shape \(3, 2\) does not fit the data: one .* its 4 rows"):
        load_teacher(teacher(tmp_path / "short.npy", None), PAIRS)
    for values in ([[1.0], [1.0, 2.0], [1.0]], [1.0, 2.0, 3.0], [[1.0], None, [1.0]]):
        parquet.write_table(pa.table({"kind": ["a", "b", "c"], "feature": values}), tmp_path / "odd.parquet")
        with pytest.raises(DataError, match=r"odd\.parquet: the column 'feature' needs lists"):
            load_teacher(teacher(tmp_path / "odd.parquet"), PAIRS)
    np.save(tmp_path / "nan.npy", np.full((4, 2), np.nan))
    with pytest.raises(DataError, match="holds NaN or infinity"):
        load_teacher(teacher(tmp_path / "nan.npy", None), PAIRS)
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}] * 4, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects\.npy: can't be read"):
        load_teacher(teacher(tmp_path / "objects.npy", None), PAIRS)
    (tmp_path / "t.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"use a \.parquet or a \.npy file"):
        load_teacher(teacher(tmp_path / "t.bin", None), PAIRS)

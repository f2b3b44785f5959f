from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from protoclip.config.schema import ClusteringConfig, TeacherConfig
from protoclip.contract.errors import ConfigError, DataError
from protoclip.prototypes.teacher import load_teacher, num_teacher_prototypes, teacher_labels
from protoclip.sources import Pairs

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
    labels = teacher_labels(features, 10, TeacherConfig(num_prototypes=2), ClusteringConfig(), seed=0)
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


def test_a_rank_reads_its_own_pairs(tmp_path: Path) -> None:
    """A file of the right type is not copied at all: what is not touched takes no memory."""
    np.save(tmp_path / "t.npy", np.arange(8, dtype=np.float32).reshape(4, 2))
    features = load_teacher(teacher(tmp_path / "t.npy", None), PAIRS, slice(1, 3))
    assert features is not None
    assert features.tolist() == [[2, 3], [4, 5]]
    assert isinstance(features.base, np.memmap)
    keyed = load_teacher(teacher(write(tmp_path, ["a", "b", "unused", "c"])), PAIRS, slice(1, 3))
    assert keyed is not None
    assert keyed.tolist() == [[0, 1], [2, 3]]
    none = load_teacher(teacher(write(tmp_path, ["a", "b", "c"])), PAIRS, slice(0))
    assert none is not None
    assert none.shape == (0, 2)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float64()), pa.large_list(pa.float16()), pa.list_(pa.float32(), 2), pa.list_(pa.int64())]
)
def test_vectors_may_be_lists_of_any_numbers(tmp_path: Path, kind: pa.DataType) -> None:
    values = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float16)
    features = pa.array([list(row) for row in values], kind)
    parquet.write_table(pa.table({"kind": ["c", "b", "a"], "feature": features}), tmp_path / "teacher.parquet")
    found = load_teacher(teacher(tmp_path / "teacher.parquet"), PAIRS)
    assert found is not None
    assert found.tolist() == [[3, 4], [5, 6], [3, 4], [1, 2]]


def test_keys_are_compared_as_they_are_written(tmp_path: Path) -> None:
    columns = {"kind": np.array(["2", "10"], dtype=object), "part": np.array(["0.5", "1.0"], dtype=object)}
    pairs = Pairs(images=[b""] * 2, texts=(("x",),) * 2, columns=columns)
    table = pa.table({"kind": [10, 2], "part": [1.0, 0.5], "feature": [[1.0], [2.0]]})
    parquet.write_table(table, tmp_path / "teacher.parquet")
    for key in columns:
        found = load_teacher(teacher(tmp_path / "teacher.parquet", key), pairs)
        assert found is not None
        assert found.tolist() == [[2], [1]]


@pytest.mark.parametrize("rows_at_once", [2, 100])
def test_a_key_may_stand_twice_with_one_feature(
    tmp_path: Path, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protoclip.prototypes.keyed_features._ROWS_AT_ONCE", rows_at_once)
    table = pa.table({"kind": ["a", "b", "a", "c"], "feature": [[0.0], [1.0], [0.0], [2.0]]})
    parquet.write_table(table, tmp_path / "teacher.parquet")
    found = load_teacher(teacher(tmp_path / "teacher.parquet"), PAIRS)
    assert found is not None
    assert found.tolist() == [[1], [0], [1], [2]]
    table = pa.table({"kind": ["b", "b", "a", "c", "a"], "feature": [[1.0], [1.0], [0.0], [2.0], [5.0]]})
    parquet.write_table(table, tmp_path / "teacher.parquet")
    with pytest.raises(DataError, match="two different features for kind = 'a': leave one of them"):
        load_teacher(teacher(tmp_path / "teacher.parquet"), PAIRS)


@pytest.mark.parametrize(("num_pairs", "expected"), [(7_968, 300), (89_000, 1_002), (1, 1), (2, 2), (30, 18)])
def test_the_number_of_clusters_grows_with_the_root_of_the_pairs(num_pairs: int, expected: int) -> None:
    assert num_teacher_prototypes(TeacherConfig(), num_pairs) == expected
    assert num_teacher_prototypes(TeacherConfig(num_prototypes=7), num_pairs) == 7

"""A table that holds the pictures names them by its rows: changed, it gives other pictures for an id."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from counting_models import NEW, OLD, CountingModel, picture, vector
from pyarrow import parquet

from protoclip.contract.errors import DataError
from protoclip.search import Index


def write_table(path: Path, order: list[int]) -> None:
    parquet.write_table(pa.table({"image": [picture(number) for number in order], "price": order}), path)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    write_table(tmp_path / "t.parquet", [1, 2, 3])
    with CountingModel(OLD).client() as client:
        Index.build(tmp_path / "x.index", client, tmp_path / "t.parquet").close()
    return tmp_path / "x.index"


def test_a_migration_does_not_read_rows_of_another_order(built: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", [3, 1, 2])
    with (
        CountingModel(NEW).client() as client,
        Index.open(built) as index,
        pytest.raises(DataError, match=r"t.parquet: has changed since the index was built.*--images"),
    ):
        index.migrate(client)
    with Index.open(built) as index:
        assert index.fingerprint == OLD


def test_the_same_table_is_read(built: Path) -> None:
    with CountingModel(NEW).client() as client, Index.open(built) as index:
        index.migrate(client)
        for entry in index.iterate():
            assert index.search(vector(NEW, picture(entry.metadata["price"])), 1)[0].id == entry.id

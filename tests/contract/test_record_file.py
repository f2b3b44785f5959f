"""Arrays beside a record: what was written is what is read, and one changed bit of either is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel
from safetensors.numpy import load, save

from protoclip.contract.errors import ModelError
from protoclip.contract.record_file import RecordFile


class Facts(BaseModel):
    name: str


FILE = RecordFile("facts", Facts, "a table", "make tables", "make it again")
ARRAYS = {"numbers": np.arange(6.0).reshape(2, 3), "none": np.zeros((0, 4), dtype=np.float32)}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    FILE.write(tmp_path / "x", Facts(name="grün"), ARRAYS)
    record, arrays = FILE.read(tmp_path / "x")
    assert record.name == "grün"
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("old", "new"), [(b"green", b"grain"), (np.float64(5).tobytes(), np.float64(4).tobytes())]
)
def test_a_change_of_the_record_or_an_array_is_told(old: bytes, new: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    FILE.write(path, Facts(name="green"), ARRAYS)
    good = path.read_bytes()
    assert good.count(old) == 1
    path.write_bytes(good.replace(old, new))
    with pytest.raises(ModelError, match=r"x: damaged: make it again"):
        FILE.read(path)


def test_a_file_without_a_hash_is_of_an_earlier_version(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(save(ARRAYS, {"facts": '{"name": "old"}'}))
    assert FILE.read(path)[0].name == "old"
    path.write_bytes(save(load(path.read_bytes()), {"other": "{}"}))
    with pytest.raises(ModelError, match="x: holds no table: name a file that `make tables` wrote"):
        FILE.read(path)
    with pytest.raises(ModelError, match=r"y: can't be read as a table \(no such file\): name a file"):
        FILE.read(tmp_path / "y")

"""Indexes of the first format: opened as they are, converted without loss, and never read when damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from old_index import write_old_index

from protoclip.contract.errors import IndexFileError
from protoclip.contract.files import sha256_file
from protoclip.contract.install import install_command
from protoclip.search import Index
from protoclip.search.places import OLD_FILES

RECORD, METADATA, VECTORS = OLD_FILES
IDS = [f"item {number}" for number in range(48)] + ["名前👠", "caf\udce9.png"]
OWN = [{"number": number, "tags": ["ß", None]} for number in range(50)]


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    made = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.fixture
def old(tmp_path: Path, vectors: NDArray[np.float32]) -> Path:
    write_old_index(tmp_path / "index", vectors, IDS, OWN, artifact="/artifacts/shop")
    return tmp_path / "index"


def _contents(index: Index) -> list[tuple[str, object, bytes]]:
    return [(entry.id, entry.metadata, entry.vector.tobytes()) for entry in index.iterate()]


def test_is_read_as_it_stands(old: Path, vectors: NDArray[np.float32]) -> None:
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    with Index.open(old) as index:
        expected = [(name, own, row.tobytes()) for name, own, row in zip(IDS, OWN, vectors, strict=True)]
        assert _contents(index) == expected
        assert (len(index), index.model, index.dim, index.artifact) == (50, "tiny", 8, "/artifacts/shop")
        assert [hit.id for hit in index.search(vectors[7], 1)] == ["item 7"]
        assert index.count({"number": {"lt": 5}}) == 5
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before


def test_the_first_call_that_writes_converts_it(old: Path, vectors: NDArray[np.float32]) -> None:
    with Index.open(old) as index, Index.open(old) as second:
        before = _contents(index)
        index.add(vectors[:1], ["new"])
        assert _contents(index)[:-1] == before
        # It was opened before, and what it holds is the older state: writing into that would be lost.
        second.add(vectors[:1], ["newer"])
        assert [entry.id for entry in second.iterate()][-2:] == ["new", "newer"]
    assert sorted(path.name for path in old.iterdir()) == ["index.sqlite", "writer.lock"]
    with Index.open(old) as index:
        assert (len(index), index.artifact) == (52, "/artifacts/shop")
        assert _contents(index)[:-2] == before


def test_converts_when_asked(old: Path) -> None:
    with Index.open(old) as index:
        before = _contents(index)
        assert [index.convert(), index.convert()] == [True, False]
        assert _contents(index) == before


@pytest.mark.parametrize("name", [VECTORS, METADATA])
def test_a_flipped_bit_is_found_before_the_file_is_read(old: Path, name: str) -> None:
    data = bytearray((old / name).read_bytes())
    data[len(data) // 2] ^= 1
    (old / name).write_bytes(data)
    with pytest.raises(IndexFileError, match=rf"{name}: damaged or changed .* build the index again"):
        Index.open(old)


@pytest.mark.parametrize("name", OLD_FILES)
def test_a_missing_file_is_named(old: Path, name: str) -> None:
    (old / name).unlink()
    with pytest.raises(IndexFileError, match="no index is here" if name == RECORD else name):
        Index.open(old)


@pytest.mark.parametrize(
    ("field", "value"),
    [("count", 49), ("count", 51), ("dim", 9), ("schema_version", 2), ("fingerprint", "?"), ("more", 1)],
)
def test_a_record_that_does_not_fit_is_refused(old: Path, field: str, value: object) -> None:
    record = json.loads((old / RECORD).read_text())
    (old / RECORD).write_text(json.dumps({**record, field: value}))
    with pytest.raises(IndexFileError, match="build the index again"):
        Index.open(old)


@pytest.mark.parametrize("change", [lambda lines: lines[:-1], lambda lines: [*lines, lines[0]]])
def test_entries_that_do_not_fit_the_vectors_are_refused(old: Path, change) -> None:  # type: ignore[no-untyped-def]
    lines = (old / METADATA).read_text(encoding="utf-8").splitlines(keepends=True)
    (old / METADATA).write_text("".join(change(lines)), encoding="utf-8")
    record = json.loads((old / RECORD).read_text())
    (old / RECORD).write_text(json.dumps({**record, "metadata_sha256": sha256_file(old / METADATA)}))
    with pytest.raises(IndexFileError, match="not 50 entries"):
        Index.open(old)


def test_another_kind_of_faiss_file_is_refused(old: Path, vectors: NDArray[np.float32]) -> None:
    other = faiss.IndexFlatL2(8)
    other.add(vectors)
    faiss.write_index(other, str(old / VECTORS))
    record = json.loads((old / RECORD).read_text())
    (old / RECORD).write_text(json.dumps({**record, "vectors_sha256": sha256_file(old / VECTORS)}))
    with pytest.raises(IndexFileError, match=r"not an IDMap2,Flat of 50 vectors"):
        Index.open(old)


def test_without_faiss_there_is_one_line(old: Path) -> None:
    program = f"""
import sys
sys.modules["faiss"] = None
from protoclip.search import Index
from protoclip.contract.errors import ConfigError
try:
    Index.open({str(old)!r})
except ConfigError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    start = "an index of the first format needs faiss to be read, which isn't installed: "
    assert result.stdout == f"{start}{install_command('cpu')} (or [gpu])\n"

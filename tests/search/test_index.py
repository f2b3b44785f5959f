"""The index on its own: exact, saved and read whole, and never mixed with another model's vectors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from protoclip.client import Client, InMemoryTransport, MemoryModel
from protoclip.contract.errors import ConfigError, IndexFileError, ProtoclipError
from protoclip.contract.install import install_command
from protoclip.search import Index
from protoclip.search.record import INDEX_FILE, METADATA_FILE, VECTORS_FILE

FINGERPRINT = "0123456789abcdef"
FILES = (INDEX_FILE, METADATA_FILE, VECTORS_FILE)


def _vectors(count: int, dim: int = 8, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def _ids(count: int, start: int = 0) -> list[str]:
    return [f"item {number}" for number in range(start, start + count)]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """50 entries of 8 dimensions, added in two parts, not saved."""
    index = Index.create(tmp_path / "index", FINGERPRINT, 8, model="tiny")
    vectors = _vectors(50)
    index.add(vectors[:20], _ids(20))
    index.add(vectors[20:], _ids(30, 20), [{"number": number} for number in range(20, 50)])
    return index


def _expected(queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int) -> list[list[tuple[int, float]]]:
    """Cosines one by one in float64, sorted."""
    answer = []
    for query in queries.astype(np.float64):
        scores = [
            float(query @ vector / np.linalg.norm(query) / np.linalg.norm(vector))
            for vector in vectors.astype(np.float64)
        ]
        best = sorted(range(len(scores)), key=lambda row: -scores[row])[:k]
        answer.append([(row, scores[row]) for row in best])
    return answer


@pytest.mark.parametrize("k", [1, 7, 50])
def test_search_is_exact(index: Index, k: int) -> None:
    queries = _vectors(9, seed=1)
    hits = index.search(queries, k)
    for found, expected in zip(hits, _expected(queries, _vectors(50), k), strict=True):
        assert [hit.id for hit in found] == [f"item {row}" for row, _ in expected]
        np.testing.assert_allclose([hit.score for hit in found], [score for _, score in expected], atol=1e-6)


def test_one_vector_gives_one_list(index: Index) -> None:
    queries = _vectors(2, seed=1)
    assert index.search(queries[1], 3) == index.search(queries, 3)[1]
    assert index.search(queries[1:], 3) == [index.search(queries[1], 3)]


def test_metadata_comes_with_its_entry(index: Index) -> None:
    vectors = _vectors(50)
    assert index.search(vectors[33], 1)[0].metadata == {"number": 33}
    assert index.search(vectors[3], 1)[0].metadata == {}


def test_saved_and_opened_is_the_same(index: Index) -> None:
    index.save()
    again = Index.open(index.path)
    queries = _vectors(9, seed=1)
    assert again.search(queries, 50) == index.search(queries, 50)
    assert (again.model, again.fingerprint, again.dim, len(again)) == ("tiny", FINGERPRINT, 8, 50)
    again.add(_vectors(1, seed=5), ["new"])
    again.save()
    assert Index.open(index.path).search(_vectors(1, seed=5)[0], 1)[0].id == "new"
    assert sorted(path.name for path in index.path.iterdir()) == sorted(FILES)


def test_unicode_and_nested_metadata_survive(tmp_path: Path) -> None:
    metadata = {
        "名前": "赤い靴 👠",
        "line\nbreak": '\u2028 \x85 "quoted"',
        "tags": ["ß", None, 1.5],
        "": {"a": True},
    }
    index = Index.create(tmp_path / "index", FINGERPRINT, 2)
    index.add([[1.0, 0.0], [0.0, 1.0]], ["ünïcode/👠.png", "b"], [metadata, {}])
    index.save()
    (hit,) = Index.open(index.path).search([1.0, 0.1], 1)
    assert (hit.id, hit.metadata) == ("ünïcode/👠.png", metadata)


def test_an_empty_index_can_be_saved_but_not_searched(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", FINGERPRINT, 8)
    index.add(np.zeros((0, 8), np.float32), [])
    index.save()
    with pytest.raises(IndexFileError, match="the index is empty: add vectors first"):
        Index.open(index.path).search(_vectors(1), 1)


class TestWrongArguments:
    @pytest.mark.parametrize("k", [0, -1, 51])
    def test_k(self, index: Index, k: int) -> None:
        with pytest.raises(ConfigError, match=rf"k={k} doesn't fit: the index holds 50 entries: use 1 to 50"):
            index.search(_vectors(1), k)

    @pytest.mark.parametrize(
        ("vectors", "message"),
        [
            (np.ones((2, 7)), r"shape \[2, 7\] don't fit: the index holds \[N, 8\]"),
            (np.ones((1, 2, 8)), r"shape \[1, 2, 8\] don't fit"),
            (np.ones(7), r"shape \[7\] don't fit"),
            (np.float32(1), r"shape \[\] don't fit"),
            ([[1.0] * 8, [np.nan] * 8], "row 1 has NaN"),
            ([[np.inf] + [0.0] * 7], "row 0 has NaN or infinite"),
            ([[1.0] * 8, [0.0] * 8], "row 1 is all zeros"),
            ([["a"] * 8], "no array of numbers"),
        ],
    )
    def test_vectors(self, index: Index, vectors: object, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            index.search(vectors, 1)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=message):
            index.add(vectors, ["a", "b"])  # type: ignore[arg-type]
        assert len(index) == 50

    @pytest.mark.parametrize(
        ("ids", "metadata", "message"),
        [
            (["a"], None, "2 vectors need as many ids"),
            ("ab", None, "2 vectors need as many ids"),
            (["a", 1], None, "id 1 is a int"),
            (["a", "a"], None, "id 'a' is there twice"),
            (["a", "item 3"], None, "id 'item 3' is there twice"),
            (["a", "b"], [{}], "2 vectors need as many metadata, not 1"),
            (["a", "b"], [{}, {"x": np.float32(1)}], "metadata of 'b' can't be written as JSON"),
            (["a", "b"], [{}, {"x": float("nan")}], "metadata of 'b' can't be written as JSON"),
            (["a", "b"], [{1: "x"}, {}], "metadata of 'a' is no mapping from texts"),
        ],
    )
    def test_entries_and_nothing_is_added(
        self, index: Index, ids: list[str], metadata: object, message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            index.add(_vectors(2, seed=3), ids, metadata)  # type: ignore[arg-type]
        assert len(index) == 50
        index.add(_vectors(2, seed=3), ["a", "b"])
        assert index.search(_vectors(2, seed=3)[1], 1)[0].id == "b"

    @pytest.mark.parametrize("fingerprint", ["", "AB12CD", "12345", "xyzxyz", "abcdef\n"])
    def test_fingerprint(self, tmp_path: Path, fingerprint: str) -> None:
        with pytest.raises(ConfigError, match="6 to 64 hexadecimal digits"):
            Index.create(tmp_path / "index", fingerprint, 8)

    def test_dim(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="dim=0"):
            Index.create(tmp_path / "index", FINGERPRINT, 0)


class TestDamage:
    @pytest.mark.parametrize("name", [VECTORS_FILE, METADATA_FILE])
    def test_a_flipped_bit_is_found_before_the_file_is_read(self, index: Index, name: str) -> None:
        index.save()
        data = bytearray((index.path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (index.path / name).write_bytes(data)
        with pytest.raises(IndexFileError, match=rf"{name}: damaged or changed .* build the index again"):
            Index.open(index.path)

    @pytest.mark.parametrize("name", FILES)
    def test_a_missing_file_is_named(self, index: Index, name: str) -> None:
        index.save()
        (index.path / name).unlink()
        with pytest.raises(IndexFileError, match=name):
            Index.open(index.path)

    @pytest.mark.parametrize(
        ("field", "value"), [("count", 49), ("dim", 9), ("schema_version", 2), ("fingerprint", "?"), ("more", 1)]
    )
    def test_a_record_that_does_not_fit_is_refused(self, index: Index, field: str, value: object) -> None:
        index.save()
        record = json.loads((index.path / INDEX_FILE).read_text())
        (index.path / INDEX_FILE).write_text(json.dumps({**record, field: value}))
        with pytest.raises(IndexFileError, match="build the index again"):
            Index.open(index.path)

    def test_another_kind_of_faiss_file_is_refused(self, index: Index) -> None:
        import faiss

        from protoclip.contract.files import sha256_file

        index.save()
        other = faiss.IndexFlatL2(8)
        other.add(_vectors(50))
        faiss.write_index(other, str(index.path / VECTORS_FILE))
        record = json.loads((index.path / INDEX_FILE).read_text())
        record["vectors_sha256"] = sha256_file(index.path / VECTORS_FILE)
        (index.path / INDEX_FILE).write_text(json.dumps(record))
        with pytest.raises(IndexFileError, match=r"not an IDMap2,Flat of 50 vectors"):
            Index.open(index.path)

    def test_no_index_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(IndexFileError, match="name a folder that `protoclip index build` wrote"):
            Index.open(tmp_path)


class TestSaving:
    def test_a_failure_leaves_the_old_index_whole(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        index.save()
        before = {name: (index.path / name).read_bytes() for name in FILES}
        index.add(_vectors(1, seed=7), ["one more"])

        def fail(path: Path, entries: object) -> None:
            path.write_text("half a li")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("protoclip.search.index.write_entries", fail)
        with pytest.raises(ProtoclipError, match="No space left on device"):
            index.save()
        assert {name: (index.path / name).read_bytes() for name in FILES} == before
        assert [path.name for path in index.path.parent.iterdir()] == ["index"]

    def test_what_is_no_index_is_never_replaced(self, index: Index) -> None:
        index.path.mkdir()
        (index.path / "holiday.jpg").write_bytes(b"precious")
        with pytest.raises(IndexFileError, match=r"is no index \(the folder holds 'holiday.jpg'\)"):
            index.save()
        with pytest.raises(IndexFileError, match="choose another place"):
            Index.create(index.path, FINGERPRINT, 8)
        with pytest.raises(IndexFileError, match="it is a file"):
            Index.create(index.path / "holiday.jpg", FINGERPRINT, 8)
        assert (index.path / "holiday.jpg").read_bytes() == b"precious"


def _client(fingerprint: str) -> Client:
    def embed(item: bytes | str) -> NDArray[np.float32]:
        return _vectors(1, seed=len(item))[0]

    model = MemoryModel(embed, embed, 8, name="tiny", fingerprint=fingerprint)
    return Client(transport=InMemoryTransport(model))


def test_another_models_client_is_refused(index: Index) -> None:
    index.save()
    message = rf"made with tiny {FINGERPRINT}, but the client uses tiny 01234567ffffffff: build the index again"
    with _client("01234567ffffffff") as other:
        with pytest.raises(IndexFileError, match=message):
            Index.open(index.path, other)
        with pytest.raises(IndexFileError, match=message):
            other.search(index, text="x")
    with _client(FINGERPRINT) as same:
        assert len(Index.open(index.path, same)) == 50


def test_without_faiss_there_is_one_line() -> None:
    program = """
import sys
sys.modules["faiss"] = None
from protoclip.contract.install import install_command
from protoclip.search import Index
from protoclip.contract.errors import ConfigError
try:
    Index.create("nowhere", "abcdef", 8)
except ConfigError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    wanted = f"an index needs faiss, which isn't installed: {install_command('cpu')} (or [gpu])\n"
    assert result.stdout == wanted

"""The index on its own: exact, durable, and never mixed with another model's vectors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from protoclip.client import Client, InMemoryTransport, MemoryModel
from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.search import Index

FINGERPRINT = "0123456789abcdef"


def _vectors(count: int, dim: int = 8, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def _ids(count: int, start: int = 0) -> list[str]:
    return [f"item {number}" for number in range(start, start + count)]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """50 entries of 8 dimensions, added in two parts."""
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


def test_equal_cosines_come_in_the_order_of_their_addition_on_all_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3,000 pictures of which two thirds are one picture: their rows lie in many products of matrices."""
    monkeypatch.setattr("protoclip.search.nearest._ROWS", 100)
    vectors = _vectors(3_000, dim=9)
    vectors[np.arange(3_000) % 3 > 0] = vectors[1]
    index = Index.create(tmp_path / "index", FINGERPRINT, 9)
    index.add(vectors, _ids(3_000))
    same = [f"item {row}" for row in range(3_000) if row % 3 > 0]
    assert [hit.id for hit in index.search(vectors[1], 2_000)] == same
    assert [hit.id for hit in index.search(vectors[1], 7, offset=1_234)] == same[1_234:1_241]
    assert index.search(vectors[:3], 50)[1] == index.search(vectors[1], 50)


def test_one_vector_gives_one_list(index: Index) -> None:
    queries = _vectors(2, seed=1)
    assert index.search(queries[1], 3) == index.search(queries, 3)[1]
    assert index.search(queries[1:], 3) == [index.search(queries[1], 3)]


def test_metadata_comes_with_its_entry(index: Index) -> None:
    vectors = _vectors(50)
    assert index.search(vectors[33], 1)[0].metadata == {"number": 33}
    assert index.search(vectors[3], 1)[0].metadata == {}


def test_opened_is_the_same(index: Index) -> None:
    queries = _vectors(9, seed=1)
    with Index.open(index.path) as again:
        assert again.search(queries, 50) == index.search(queries, 50)
        assert (again.model, again.fingerprint, again.dim, len(again)) == ("tiny", FINGERPRINT, 8, 50)
        again.add(_vectors(1, seed=5), ["new"])
        again.save()
    assert index.search(_vectors(1, seed=5)[0], 1)[0].id == "new"
    index.close()
    assert sorted(path.name for path in index.path.iterdir()) == ["index.sqlite", "writer.lock"]


def test_unicode_and_nested_metadata_survive(tmp_path: Path) -> None:
    metadata = {
        "名前": "赤い靴 👠",
        "line\nbreak": '\u2028 \x85 "quoted"',
        "tags": ["ß", None, 1.5],
        "": {"a": True},
        "no utf-8": "\udce9",
    }
    index = Index.create(tmp_path / "index", FINGERPRINT, 2)
    index.add([[1.0, 0.0], [0.0, 1.0]], ["ünïcode/👠\udce9.png", "b"], [metadata, {}])
    (hit,) = Index.open(index.path).search([1.0, 0.1], 1)
    assert (hit.id, hit.metadata) == ("ünïcode/👠\udce9.png", metadata)


def test_an_empty_index_has_no_hits(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", FINGERPRINT, 8)
    index.add(np.zeros((0, 8), np.float32), [])
    assert Index.open(index.path).search(_vectors(2), 1) == [[], []]
    assert index.search(np.zeros((0, 8)), 1) == []


def test_more_than_there_are_gives_all(index: Index) -> None:
    assert index.search(_vectors(1)[0], 51) == index.search(_vectors(1)[0], 50)
    assert len(index.search(_vectors(1)[0], 51)) == 50


class TestWrongArguments:
    @pytest.mark.parametrize("k", [0, -1])
    def test_k(self, index: Index, k: int) -> None:
        with pytest.raises(ConfigError, match=f"k={k} must be at least 1"):
            index.search(_vectors(1), k)
        with pytest.raises(ConfigError, match="offset=-1 must be at least 0"):
            index.search(_vectors(1), 1, offset=-1)

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


def test_no_index_at_all(tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match="name a folder that `protoclip index build` wrote"):
        Index.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_something_else_is_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(IndexFileError, match=r"is no index \(the folder holds 'holiday.jpg'\)"):
        Index.create(tmp_path, FINGERPRINT, 8)
    with pytest.raises(IndexFileError, match=r"is no index \(it is a file\)"):
        Index.create(tmp_path / "holiday.jpg", FINGERPRINT, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_an_index_is_not_made_where_one_is(index: Index) -> None:
    with pytest.raises(IndexFileError, match="an index is here: open it, or give replace=True"):
        Index.create(index.path, FINGERPRINT, 8)
    assert len(index) == 50
    Index.create(index.path, "abcdef", 4, replace=True).add(np.eye(4)[:1], ["item 3"])
    with pytest.raises(IndexFileError, match="was built again with another model meanwhile: open it again"):
        len(index)
    assert [entry.id for entry in Index.open(index.path).iterate()] == ["item 3"]


def test_replaced_by_one_of_the_same_model_nothing_of_the_old_is_found(index: Index) -> None:
    assert index.search(_vectors(50)[3], 1)[0].id == "item 3"
    Index.create(index.path, FINGERPRINT, 8, replace=True).add(_vectors(2, seed=1), ["item 3", "b"])
    assert {hit.id for hit in index.search(_vectors(50)[3], 10)} == {"item 3", "b"}
    assert index.search(_vectors(2, seed=1)[0], 1)[0].score == pytest.approx(1)


def _client(fingerprint: str) -> Client:
    def embed(item: bytes | str) -> NDArray[np.float32]:
        return _vectors(1, seed=len(item))[0]

    model = MemoryModel(embed, embed, 8, name="tiny", fingerprint=fingerprint)
    return Client(transport=InMemoryTransport(model))


def test_another_models_client_is_refused(index: Index) -> None:
    message = rf"made with tiny {FINGERPRINT}, but the client uses tiny 01234567ffffffff: ask a server"
    with _client("01234567ffffffff") as other:
        with pytest.raises(IndexFileError, match=message):
            Index.open(index.path, other)
        with pytest.raises(IndexFileError, match=message):
            other.search(index, text="x")
    with _client(FINGERPRINT) as same:
        assert len(Index.open(index.path, same)) == 50


def test_vectors_of_another_models_client_are_refused(index: Index) -> None:
    with _client("01234567ffffffff") as other, _client(FINGERPRINT) as same:
        strange, own = other.embed_texts(["x", "yy"]), same.embed_texts(["x", "yy"])
        for vectors in (strange, strange[0], 2 * strange[1] - strange[0], strange.mean(axis=0)):
            with pytest.raises(
                IndexFileError, match=rf"made with tiny {FINGERPRINT}, but these vectors with 0123"
            ):
                index.search(vectors, 1)
        with pytest.raises(IndexFileError, match="but these vectors with"):
            index.add(other.embed_texts(["x"], errors="return"), ["x"])
        assert len(index.search(own, 1)) == 2
        index.add(same.embed_texts(["x"], errors="return"), ["x"])
    assert len(index) == 51


def test_a_closed_index_says_so(index: Index) -> None:
    index.close()
    index.close()
    for call in (lambda: len(index), lambda: index.search(_vectors(1), 1), lambda: index.remove("item 1")):
        with pytest.raises(IndexFileError, match="the index is closed: open it again"):
            call()


def test_without_faiss_it_works(tmp_path: Path) -> None:
    program = f"""
import sys
sys.modules["faiss"] = None
from protoclip.search import Index
with Index.create({str(tmp_path / "x")!r}, "abcdef", 2) as index:
    index.add([[1, 0]], ["a"])
    print(index.search([1, 0]))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[Hit(id='a', score=1.0, metadata={}, relevance=None)]\n"

"""Approximate search: what was asked for is found, nothing is that isn't there, and no file's loss goes unsaid."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from protoclip.client import Hit
from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.search import AcceleratorWarning, Index, SegmentWarning, traits_of, upkeep
from protoclip.search.approximate import choosing, library, making, tuned, tuning
from protoclip.search.approximate.search import ApproximateSearch
from protoclip.search.approximate.tuned import Effort

COUNT, DIM = 3000, 16
FINGERPRINT = "0123456789abcdef"


def made(count: int, seed: int, *, texts: bool = False) -> NDArray[np.float32]:
    """`[count, 16]` around 40 themes; texts lie apart from pictures, and less near to their theme."""
    rng = np.random.default_rng(seed)
    themes = np.random.default_rng(99).standard_normal((40, DIM))
    rows = themes[rng.integers(0, 40, count)] + (1.0 if texts else 0.5) * rng.standard_normal((count, DIM))
    rows[:, 0] += -6 if texts else 6
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


PICTURES, TEXTS = made(COUNT, 0), made(500, 1, texts=True)
NEW_PICTURES, NEW_TEXTS = made(100, 2), made(100, 3, texts=True)


@pytest.fixture(scope="module")
def tuned_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 entries in segments of 1,000, and 24 behind them; tuned by texts, however fast that is."""
    path = tmp_path_factory.mktemp("approximate") / "x.index"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(upkeep, "SEGMENT_ROWS", 992)
        patched.setattr(upkeep, "MAX_ROWS", 992)
        patched.setattr(choosing, "LEAST_SPEEDUP", 0.0)
        with Index.create(path, FINGERPRINT, DIM) as index:
            index.add(PICTURES, [f"picture {row}" for row in range(COUNT)], [{"row": row} for row in range(COUNT)])
            index.tune(0.95, TEXTS)
    return path


@pytest.fixture
def index(tuned_index: Path, tmp_path: Path) -> Index:
    shutil.copytree(tuned_index, tmp_path / "x.index")
    return Index.open(tmp_path / "x.index")


def recall(found: Sequence[Sequence[Hit]], true: Sequence[Sequence[Hit]]) -> float:
    shares = [
        len({hit.id for hit in own} & {hit.id for hit in row}) / max(1, len(row))
        for own, row in zip(found, true, strict=True)
    ]
    return float(np.mean(shares))


@pytest.mark.parametrize(("queries", "kind"), [(NEW_PICTURES, "by_entry"), (NEW_TEXTS, "by_other")])
def test_queries_that_tuning_never_saw_find_what_was_asked_for(
    index: Index, queries: NDArray[np.float32], kind: str
) -> None:
    measured = getattr(index.stats().tuning, kind)
    assert measured.is_approximate
    assert measured.recall >= 0.95
    assert measured.queries >= 200
    found, true = index.search(queries), index.search(queries, exact=True)
    assert recall(found, true) > 0.9
    assert found != true, "all is found: then this tests nothing"
    scores = {(row, hit.id): hit.score for row, hits in enumerate(true) for hit in hits}
    both = [(row, hit) for row, hits in enumerate(found) for hit in hits if (row, hit.id) in scores]
    assert all(hit.score == scores[row, hit.id] for row, hit in both)
    assert index.search(queries[7]) == found[7]


def test_the_index_says_how_it_is_searched(index: Index) -> None:
    stats = index.stats()
    assert (stats.engine, traits_of(index).search) == ("IVF8,PQ8x4fs", "approximate")
    assert index.tuning == stats.tuning
    assert stats.tuning is not None
    assert (stats.tuning.asked, stats.tuning.entries, stats.later, stats.tuning_is_due) == (0.95, COUNT, 0, False)


@pytest.mark.parametrize("share", [0.5, 0.05, 0.005])
def test_conditions_hold_the_recall(index: Index, share: float) -> None:
    where = {"row": {"lt": int(COUNT * share)}}
    for queries in (NEW_PICTURES, NEW_TEXTS):
        found = index.search(queries, where=where)
        assert all(hit.metadata["row"] < COUNT * share for hits in found for hit in hits)
        assert recall(found, index.search(queries, where=where, exact=True)) > 0.9


def test_a_condition_that_excludes_the_nearest_lists_has_others_read(index: Index) -> None:
    view, accelerator, found = _parts(index)
    search = ApproximateSearch(accelerator, found, view)
    order = accelerator.list_order(NEW_PICTURES[:1])[0]
    allowed = accelerator.keys[~np.isin(accelerator.lists, order[:3])]
    selected = search._select(allowed)
    probes = search._probes(NEW_PICTURES[:1], Effort(10, 3, 400), selected)
    assert selected.number == len(allowed)
    assert selected.by_list is not None
    assert selected.by_list[order[:probes]].sum() >= COUNT * 3 / 8
    assert selected.by_list[order[: probes - 1]].sum() < COUNT * 3 / 8


def test_few_that_fit_are_all_found_and_none_beside_them(index: Index) -> None:
    where = {"row": {"in": [5, 1700, 2999]}}
    assert {hit.id for hit in index.search(NEW_TEXTS[0], where=where)} == {
        "picture 5",
        "picture 1700",
        "picture 2999",
    }
    assert index.search(NEW_TEXTS[0], where={"row": -1}) == []


def test_fewer_candidates_than_asked_for_are_no_entries(index: Index) -> None:
    """faiss fills up with -1, which would be the last entry."""
    view, accelerator, found = _parts(index)
    search = ApproximateSearch(accelerator, found, view)
    (best,) = search.with_effort(NEW_PICTURES[:1], 1000, None, Effort(1000, 1, COUNT), lambda _: None)
    assert 0 < len(best.keys) < 1000
    assert len(set(best.keys.tolist())) == len(best.keys)
    lists = accelerator.lists
    assert len(set(lists[np.searchsorted(accelerator.keys, best.keys)].tolist())) == 1


def _parts(index: Index):  # type: ignore[no-untyped-def]
    with index._reading() as (connection, facts):
        view = index._snapshots.checked_view(connection, facts, index._database)
        record = tuned.read_record(facts)
        assert record is not None
        return view, index._snapshots._accelerator_of(record, facts, index._database), record.tuning


def test_more_hits_than_it_was_tuned_for_are_exact(index: Index) -> None:
    assert index.search(NEW_TEXTS, 101) == index.search(NEW_TEXTS, 101, exact=True)
    assert len(index.search(NEW_TEXTS[0], COUNT + 5)) == COUNT


def test_what_was_added_since_is_found_and_what_was_removed_is_not(index: Index) -> None:
    with Index.open(index.path) as reader:
        reader.search(NEW_PICTURES)
        index.add(NEW_PICTURES[:50], [f"new {row}" for row in range(50)], [{"row": -1}] * 50)
        assert index.stats().later == 50
        for one in (index, reader):
            assert [hits[0].id for hits in one.search(NEW_PICTURES[:50])] == [f"new {row}" for row in range(50)]
            assert [hit.id for hit in one.search(NEW_PICTURES[3], where={"row": -1})[:1]] == ["new 3"]
        near = [hit.id for hit in index.search(NEW_PICTURES[60], 10)]
        assert index.remove(near) == 10
        index.upsert(NEW_PICTURES[60], ["picture 8"])
        for one in (index, reader):
            hits = one.search(NEW_PICTURES[60:])
            assert hits[0][0].id == "picture 8"
            assert not {hit.id for row in hits for hit in row} & (set(near) - {"picture 8"})
            assert recall(hits, one.search(NEW_PICTURES[60:], exact=True)) > 0.9
        index.compact()
        for one in (index, reader, Index.open(index.path)):
            assert one.search(NEW_PICTURES[60:]) == hits


def test_an_id_that_is_searched_by_costs_no_hit(index: Index) -> None:
    queries = [index.vector(f"picture {row}") for row in range(60)]
    found = [index.search(query, 10, without=[f"picture {row}"]) for row, query in enumerate(queries)]
    true = [index.search(query, 10, without=[f"picture {row}"], exact=True) for row, query in enumerate(queries)]
    assert recall(found, true) > 0.9
    assert all(
        len(hits) == 10 and f"picture {row}" not in {hit.id for hit in hits} for row, hits in enumerate(found)
    )


class TestLostFiles:
    @pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
    def test_of_the_accelerator(self, index: Index, damage: str) -> None:
        (file,) = index.path.glob("accelerator-*.faiss")
        data = bytearray(file.read_bytes())
        file.unlink()
        if damage != "missing":
            data[len(data) // 2] ^= 1
            file.write_bytes(data if damage == "flipped" else data[:-1])
        with pytest.warns(AcceleratorWarning, match=r"is missing or damaged: .*until `protoclip index tune`"):
            assert index.search(NEW_TEXTS) == index.search(NEW_TEXTS, exact=True)
        with warnings.catch_warnings():
            # It is said once.
            warnings.simplefilter("error")
            index.search(NEW_TEXTS)

    def test_a_missing_one_is_made_again_by_compact(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choosing, "LEAST_SPEEDUP", 0.0)
        (file,) = index.path.glob("accelerator-*.faiss")
        file.unlink()
        assert (index.stats().engine, index.stats().tuning_is_due) == ("exact", True)
        with pytest.warns(AcceleratorWarning, match="is missing"):
            index.compact()
        stats = index.stats()
        assert (stats.engine, stats.tuning_is_due) == ("IVF8,PQ8x4fs", False)
        assert stats.tuning is not None
        assert stats.tuning.asked == 0.95
        assert index.search(NEW_PICTURES) != index.search(NEW_PICTURES, exact=True)
        assert len(list(index.path.glob("accelerator*"))) == 1

    def test_a_segment_s_damage_is_found_by_the_search_that_reads_it(self, index: Index) -> None:
        for file in index.path.glob("segment-*"):
            data = bytearray(file.read_bytes())
            data[992 * 8 :] = bytes(len(data) - 992 * 8)
            file.write_bytes(data)
        with Index.open(index.path) as again, pytest.warns(SegmentWarning, match="is damaged"):
            assert again.search(PICTURES[5], 1)[0].id == "picture 5"

    def test_what_an_ended_tuning_left_is_removed_by_the_next_writer(
        self, index: Index, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = index.search(NEW_TEXTS)
        monkeypatch.setattr(choosing, "LEAST_SPEEDUP", 0.0)

        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(tuning, "put_accelerator_in_place", fail)
            with pytest.raises(KeyboardInterrupt):
                index.tune(0.9, TEXTS)
        assert index.search(NEW_TEXTS) == before
        assert not (index.path / "accelerator.new").exists()
        left = ["accelerator.new", f"accelerator-{'0' * 16}.faiss"]
        for name in left:
            (index.path / name).write_bytes(b"half")
        index.remove([])
        assert not any((index.path / name).exists() for name in left)
        assert index.search(NEW_TEXTS) == before


class TestExactWhere:
    def test_texts_were_not_given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choosing, "LEAST_SPEEDUP", 0.0)
        with Index.create(tmp_path / "x.index", FINGERPRINT, DIM) as index:
            index.add(PICTURES, [str(row) for row in range(COUNT)])
            found = index.tune(0.95)
            assert (found.by_entry.is_approximate, found.by_other.is_approximate) == (True, False)
            assert str(found.by_other) == "exact: no queries were given to measure on"
            assert index.search(NEW_TEXTS) == index.search(NEW_TEXTS, exact=True)
            assert index.search(NEW_PICTURES) != index.search(NEW_PICTURES, exact=True)
            # Kept for the next time, also for that of `compact`.
            index.tune(0.95, TEXTS)
            assert index.tune(0.95).by_other.is_approximate

    def test_approximate_searches_are_no_faster(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choosing, "LEAST_SPEEDUP", 1e9)
        found = index.tune(0.9, TEXTS)
        assert found.engine == index.stats().engine == "exact"
        assert "an approximate search with a recall of 0.9" in found.by_entry.reason
        assert index.search(NEW_PICTURES) == index.search(NEW_PICTURES, exact=True)
        assert list(index.path.glob("accelerator*")) == []
        assert not index.stats().tuning_is_due

    def test_the_recall_can_t_be_reached(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choosing, "_MOST_CANDIDATES", 10)
        found = index.tune(0.999, TEXTS)
        assert str(found.by_entry) == "exact: an approximate search doesn't reach a recall of 0.999"
        assert index.search(NEW_TEXTS) == index.search(NEW_TEXTS, exact=True)

    def test_faiss_is_not_installed(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "faiss", None)
        monkeypatch.setattr("protoclip.search.snapshots.has_faiss", lambda: False)
        with pytest.warns(AcceleratorWarning, match="faiss isn't installed: searches compare with every vector"):
            assert index.search(NEW_TEXTS) == index.search(NEW_TEXTS, exact=True)
        with pytest.raises(
            ConfigError, match=r"approximate search needs faiss, which isn't installed: pip install"
        ):
            index.tune()
        with pytest.raises(ConfigError, match="approximate search needs faiss"):
            library.load_faiss()

    def test_another_index_was_built_in_its_place(self, index: Index) -> None:
        Index.create(index.path, FINGERPRINT, DIM, replace=True).close()
        with Index.open(index.path) as again:
            assert (again.tuning, again.stats().engine) == (None, "exact")
            again.add(PICTURES[:300], [str(row) for row in range(300)])
            assert again.search(PICTURES[7], 1)[0].id == "7"
            assert list(index.path.glob("accelerator*")) == []


def test_a_large_index_says_once_that_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "LEAST_SPEEDUP", 0.0)
    monkeypatch.setattr(tuned, "TUNE_FROM", 400)
    with Index.create(tmp_path / "x.index", FINGERPRINT, DIM) as index, warnings.catch_warnings():
        warnings.simplefilter("error")
        index.add(PICTURES[:399], [str(row) for row in range(399)])
        with pytest.warns(AcceleratorWarning, match="holds 400 entries: .*run `protoclip index tune`"):
            index.add(PICTURES[399:400], ["399"])
        index.add(PICTURES[400:500], [str(row) for row in range(400, 500)])
        assert index.stats().tuning_is_due
        index.compact()
        assert not index.stats().tuning_is_due
        index.add(PICTURES[500:999], [str(row) for row in range(500, 999)])
        with pytest.warns(AcceleratorWarning, match="holds 1000 entries"):
            index.add(PICTURES[999:1000], ["999"])
        assert index.stats().tuning_is_due
        index.settle()
        assert index.stats().tuning is not None
        assert index.stats().tuning.entries == 1000


class TestWrongArguments:
    @pytest.mark.parametrize("wrong", [0, 1, 1.5, -0.5, float("nan"), True, "0.9"])
    def test_recall(self, index: Index, wrong: float) -> None:
        with pytest.raises(ConfigError, match=r"recall=.* \(--recall\) must be a number between 0 and 1"):
            index.tune(wrong)

    def test_queries(self, index: Index) -> None:
        with pytest.raises(ConfigError, match=r"99 queries .* are too few to tune with: give at least 100"):
            index.tune(queries=TEXTS[:99])
        with pytest.raises(ConfigError, match=r"shape \[200, 7\] don't fit"):
            index.tune(queries=np.ones((200, 7)))
        with pytest.raises(ConfigError, match="row 3 has NaN"):
            index.tune(queries=np.where(np.arange(200)[:, np.newaxis] == 3, np.nan, TEXTS[:200]))

    def test_too_few_entries(self, tmp_path: Path) -> None:
        with Index.create(tmp_path / "x.index", FINGERPRINT, DIM) as index:
            index.add(PICTURES[:255], [str(row) for row in range(255)])
            with pytest.raises(ConfigError, match="holds 255 entries, and tuning needs 256"):
                index.tune()

    def test_it_was_built_again_meanwhile(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        def build_again(*arguments: object) -> making.Made:
            Index.create(index.path, FINGERPRINT, DIM, replace=True).close()
            return make(*arguments)

        make = making.make
        monkeypatch.setattr(choosing, "LEAST_SPEEDUP", 0.0)
        monkeypatch.setattr(tuning, "make", build_again)
        with pytest.raises(IndexFileError, match="was built again meanwhile: tune it again"):
            index.tune(0.9)
        assert list(index.path.glob("accelerator*")) == []

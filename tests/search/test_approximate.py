"""Approximate search: what was asked for is found, nothing is that isn't there, and no file's loss goes unsaid."""

from __future__ import annotations

import shutil
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tuned_index import (
    COUNT,
    DIM,
    ENGINE,
    FINGERPRINT,
    NEW_PICTURES,
    NEW_TEXTS,
    PICTURES,
    TEXTS,
    make_tuned_index,
)

from protoclip.client import Hit
from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.search import AcceleratorWarning, Index, SegmentWarning, traits_of
from protoclip.search.approximate import choosing, conditioned, library, making, threads, tuned, tuning
from protoclip.search.approximate.plans import plans, under_condition
from protoclip.search.approximate.search import ApproximateSearch
from protoclip.search.approximate.tuned import Effort, FilteredEffort
from protoclip.search.nearest import nearest


@pytest.fixture(scope="module")
def tuned_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_index(tmp_path_factory.mktemp("approximate") / "x.index")


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
    assert (stats.engine, traits_of(index).search) == (ENGINE, "approximate")
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
    # Of entries at random these would be enough.
    at_random = [FilteredEffort(0.1, 4, 50)]
    (plan,) = plans(NEW_PICTURES[:1], Effort(10, 3, 400), at_random, accelerator, selected)
    probes = plan.effort.probes
    assert (plan.effort.candidates, plan.is_sure) == (400, False)
    assert selected.number == len(allowed)
    assert selected.by_list is not None
    assert selected.by_list[order[:probes]].sum() >= COUNT * 3 / 8
    assert selected.by_list[order[: probes - 1]].sum() < COUNT * 3 / 8


def test_a_condition_at_random_costs_what_was_measured_for_its_share(index: Index) -> None:
    view, accelerator, found = _parts(index)
    search = ApproximateSearch(accelerator, found, view)
    measured = [FilteredEffort(0.3, 5, 60), FilteredEffort(0.1, 6, 40)]
    effort = Effort(10, 3, 80)
    for share, expected in ((0.5, (5, 80)), (0.3, (5, 80)), (0.2, (6, 60)), (0.1, (6, 60))):
        usual = under_condition(effort, measured, share)
        assert usual is not None
        assert (usual.probes, usual.candidates) == expected
    assert under_condition(effort, measured, 0.05) is None
    assert under_condition(effort, measured, 0.95) == Effort(10, 4, 80)
    at_random = search._select(accelerator.keys[::2])
    (plan,) = plans(NEW_PICTURES[:20], Effort(10, 8, 80), measured, accelerator, at_random)
    assert (plan.rows.tolist(), plan.effort, plan.is_sure) == (list(range(20)), Effort(10, 8, 80), True)
    # Of so few in a list nothing can be told.
    few = search._select(accelerator.keys[::60])
    (plan,) = plans(NEW_PICTURES[:1], Effort(10, 1, 80), [FilteredEffort(0.01, 1, 40)], accelerator, few)
    assert not plan.is_sure
    # What is asked for is kept: the neighbours are where they were without a condition.
    near = np.flatnonzero(np.isin(accelerator.lists, accelerator.list_order(NEW_PICTURES[:1])[0][:3]))
    (plan,) = plans(NEW_PICTURES[:1], effort, measured, accelerator, search._select(accelerator.keys[near]))
    assert plan.effort == Effort(10, 6, 80)


def test_a_condition_is_searched_as_tuning_measured_with_entries_at_random(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So far and no farther, and with what is left out besides."""
    monkeypatch.setattr(choosing, "LEAST_SPEEDUP", 0.0)
    monkeypatch.setattr(conditioned, "FEWEST_KEPT", 200)
    index.tune(0.95)
    with Index.open(index.path) as again:
        _, accelerator, found = _parts(again)
        for kind in (found.by_entry, found.by_other):
            assert [one.share for one in kind.filtered] == [0.3, 0.1]
        # A quarter of each list.
        rows = np.concatenate([np.flatnonzero(accelerator.lists == one)[::4] for one in range(8)])
        where = {"row": {"in": rows.tolist()}}
        widened, widen = [], ApproximateSearch._widened
        monkeypatch.setattr(
            ApproximateSearch, "_widened", lambda *given: widened.extend(given[1]) or widen(*given)
        )
        for queries in (NEW_PICTURES, NEW_TEXTS):
            true = rows[np.argsort(-(queries @ PICTURES[rows].T), axis=1)[:, :10]]
            hits = again.search(queries, where=where)
            both = [
                len({hit.metadata["row"] for hit in one} & set(own)) for one, own in zip(hits, true, strict=True)
            ]
            assert np.mean(both) > 9
        # Of a small list it can't be told.
        assert len(widened) < 100
        nearest_ids = [hit.id for hit in again.search(NEW_PICTURES[0], 100, where=where, exact=True)]
        assert len(again.search(NEW_PICTURES[0], 10, where=where, without=nearest_ids[:90])) == 10


def test_a_condition_that_excludes_what_is_asked_for_is_searched_farther(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The neighbours that are left lie anywhere: more is looked at than the old rule and its lists hold."""
    view, accelerator, found = _parts(index)
    search = ApproximateSearch(accelerator, found, view)
    order = accelerator.list_order(NEW_PICTURES)
    shares: dict[bool, list[float]] = {True: [], False: []}
    for row in range(40):
        query = NEW_PICTURES[row : row + 1]
        allowed = accelerator.keys[~np.isin(accelerator.lists, order[row, :1])]
        true = set(nearest(view.parts(allowed), query, 10)[0].keys.tolist())
        for widens, shown in shares.items():
            with monkeypatch.context() as patched:
                if not widens:
                    patched.setattr(search, "_widened", lambda *arguments: arguments[-1])
                (best,) = search.with_effort(query, 10, allowed, Effort(10, 2, 40), lambda _: None)
            shown.append(len(true & set(best.keys.tolist())) / 10)
    assert np.mean(shares[True]) > np.mean(shares[False]) + 0.05
    assert np.mean(shares[True]) > 0.9


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
    allowed = accelerator.keys[:100]
    selected = search._select(allowed)
    places = accelerator.candidates(NEW_PICTURES[:1], 400, 8, selected.selector)
    assert np.count_nonzero(places >= 0) == 100
    (best,) = search._approximated(NEW_PICTURES[:1], 300, Effort(300, 8, 400), selected, lambda _: None)
    assert sorted(best.keys.tolist()) == allowed.tolist()


def test_lists_that_hold_less_than_was_asked_for_cost_no_hit(index: Index) -> None:
    """Lists may be of any size, and the nearest ones empty."""
    view, accelerator, found = _parts(index)
    search = ApproximateSearch(accelerator, found, view)
    for queries in (NEW_PICTURES[:1], NEW_PICTURES[:5]):
        for best in search.with_effort(queries, 1000, None, Effort(1000, 1, COUNT), lambda _: None):
            assert len(set(best.keys.tolist())) == 1000


@pytest.mark.parametrize("probes", [3, 7, 8])
def test_lists_are_dealt_to_threads(index: Index, monkeypatch: pytest.MonkeyPatch, probes: int) -> None:
    """The best by their codes are the same, but for the last ones, whose codes are as good as the next."""
    _, accelerator, _ = _parts(index)
    alone = accelerator.candidates(NEW_PICTURES[:1], 100, probes)
    monkeypatch.setattr("protoclip.search.approximate.accelerator._CODES_PER_THREAD", 1)
    monkeypatch.setattr("protoclip.search.approximate.accelerator.num_threads", lambda: 3)
    dealt = accelerator.candidates(NEW_PICTURES[:1], 100, probes)
    every = accelerator.candidates(NEW_PICTURES[:1], COUNT, 8)
    assert dealt.shape == (1, 100)
    assert len(set(dealt[0].tolist())) == 100
    assert len(set(dealt[0].tolist()) & set(alone[0].tolist())) >= 90
    assert sorted(every[0].tolist()) == list(range(COUNT))


def _parts(index: Index):  # type: ignore[no-untyped-def]
    with index._reading() as (connection, facts):
        view = index._snapshots.checked_view(connection, facts, index._database)
        record = tuned.read_record(facts)
        assert record is not None
        return view, index._snapshots._accelerator_of(record, facts, index._database), record.tuning


def test_work_in_threads_is_in_order_and_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "num_threads", lambda: 4)
    assert threads.in_threads(lambda item: 2 * item, range(100)) == list(range(0, 200, 2))
    with pytest.raises(ZeroDivisionError):
        threads.in_threads(lambda item: 1 // (item - 7), range(20))


def test_a_thread_that_has_begun_is_waited_for_where_there_are_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    class OneThread(ThreadPoolExecutor):
        def submit(self, *arguments, **named):  # type: ignore[no-untyped-def]
            if self._threads:
                raise RuntimeError("can't start new thread")
            return super().submit(*arguments, **named)

    def work(item: int) -> int:
        if threading.current_thread() is threading.main_thread():
            assert begun.wait(60)
        else:
            begun.set()
            time.sleep(0.1)
        return 2 * item

    with OneThread(3) as pool:
        monkeypatch.setattr(threads, "num_threads", lambda: 4)
        monkeypatch.setattr(threads, "_pool", lambda _: pool)
        assert threads.in_threads(work, range(20)) == list(range(0, 40, 2))


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

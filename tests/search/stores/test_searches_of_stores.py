"""Every store finds what a comparison with every vector finds: groups, pages, and more hits than there are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from search_engines import FINGERPRINT, Engine, again
from store_reference import Corpus

from protoclip.client.model_vectors import of_model
from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.search import Store, traits_of

COUNT, DIM = 300, 12
RNG = np.random.default_rng(3)
_RAW = RNG.standard_normal((COUNT, DIM))
VECTORS = (_RAW / np.linalg.norm(_RAW, axis=1, keepdims=True)).astype(np.float32)
METADATA = [{"product": number // 4, "price": number, "half": number % 2} for number in range(COUNT)]
CORPUS = Corpus([f"photo {number}" for number in range(COUNT)], VECTORS, METADATA)
QUERIES = RNG.standard_normal((5, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def store(engine: Engine) -> Iterator[Store]:
    with engine.create(DIM, model="tiny") as store:
        store.add(VECTORS[:100], CORPUS.ids[:100], METADATA[:100])
        store.upsert(VECTORS[100:], CORPUS.ids[100:], METADATA[100:])
        yield store


@pytest.mark.parametrize("k", [1, 10, COUNT, 5 * COUNT, 10**30])
def test_the_best_of_all(store: Store, k: int) -> None:
    found = store.search(QUERIES, k)
    assert len(found) == len(QUERIES)
    for query, hits in zip(QUERIES, found, strict=True):
        assert [hit.id for hit in hits] == CORPUS.nearest(query, k)
        for hit in hits:
            row = CORPUS.ids.index(hit.id)
            assert hit.metadata == METADATA[row]
            cosine = float(VECTORS[row].astype(np.float64) @ query) / np.linalg.norm(query.astype(np.float64))
            assert hit.score == pytest.approx(cosine, abs=1e-6)


def test_one_vector_gives_one_list_and_none_gives_none(store: Store) -> None:
    (only,) = store.search(QUERIES[1:2], 3)
    assert [hit.id for hit in store.search(QUERIES[1], 3)] == [hit.id for hit in only]
    assert store.search(np.zeros((0, DIM), np.float32), 3) == []


def test_pages_fit_together(store: Store) -> None:
    whole = [hit.id for hit in store.search(QUERIES[0], 30)]
    pages = [hit.id for page in range(0, 30, 7) for hit in store.search(QUERIES[0], 7, offset=page)]
    assert pages[:30] == whole
    assert store.search(QUERIES[0], 5, offset=COUNT) == []
    assert [hit.id for hit in store.search(QUERIES[0], 5, offset=COUNT - 2)] == CORPUS.nearest(QUERIES[0], COUNT)[
        -2:
    ]


def test_groups_are_looked_for_as_far_as_it_takes(store: Store) -> None:
    for query in QUERIES[:3]:
        best: dict[int, str] = {}
        for name in CORPUS.nearest(query, COUNT):
            best.setdefault(METADATA[CORPUS.ids.index(name)]["product"], name)
        for k, offset in ((1, 0), (10, 0), (6, 4), (COUNT, 0)):
            hits = store.search(query, k, group_by="product", offset=offset)
            assert [hit.id for hit in hits] == list(best.values())[offset : offset + k]
    two = store.search(QUERIES[0], 10, group_by="half")
    assert sorted(hit.metadata["half"] for hit in two) == [0, 1]
    assert len(store.search(QUERIES[0], 10, group_by="half", where={"half": 1})) == 1


def test_of_near_duplicates_the_best_alone_is_shown(engine: Engine) -> None:
    """As by the rule that groups near-duplicates, in the order of the search; pages fit together."""
    rng = np.random.default_rng(5)
    raw = np.repeat(rng.standard_normal((40, DIM)), 6, axis=0) + rng.normal(0, 0.2, (240, DIM))
    rows = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    metadata = [{"product": number // 9, "half": number % 2} for number in range(len(rows))]
    corpus = Corpus([f"{number}" for number in range(len(rows))], rows, metadata)
    with engine.create(DIM) as store:
        store.add(rows, corpus.ids, metadata)
        for threshold, query in ((0.97, rng.standard_normal(DIM)), (0.8, rows[3]), (1, rows[7])):
            best = corpus.nearest(query, len(rows))
            expected = _distinct(corpus, best, threshold)
            assert len(expected) == len(rows) if threshold == 1 else 30 < len(expected) < len(rows) - 20
            for k, offset in ((5, 0), (5, 5), (len(rows), 0)):
                hits = store.search(query, k, distinct=threshold, offset=offset)
                assert [hit.id for hit in hits] == expected[offset : offset + k]
        firsts = {metadata[int(name)]["product"]: name for name in reversed(best)}
        grouped = _distinct(corpus, [name for name in best if name in firsts.values()], 0.8)
        hits = store.search(query, len(rows), distinct=0.8, group_by="product")
        assert [hit.id for hit in hits] == grouped
        some = store.search(query, 9, distinct=0.97, where={"half": 1}, without=best[:1])
        fitting = corpus.nearest(query, len(rows), {"half": 1}, best[:1])
        assert [hit.id for hit in some] == _distinct(corpus, fitting, 0.97)[:9]


def _distinct(corpus: Corpus, names: list[str], threshold: float) -> list[str]:
    shown: list[str] = []
    for name in names:
        others = [corpus.vectors[int(other)].astype(np.float64) for other in shown]
        if all(other @ corpus.vectors[int(name)] < threshold - 1e-6 * (threshold == 1) for other in others):
            shown.append(name)
    return shown


def test_some_are_no_answer(store: Store) -> None:
    without = [*CORPUS.nearest(QUERIES[0], 3), "never there", "' OR 1=1 --"]
    hits = store.search(QUERIES[0], 5, without=without)
    assert [hit.id for hit in hits] == CORPUS.nearest(QUERIES[0], 8)[3:]
    assert len(store.search(QUERIES[0], COUNT, without=without)) == COUNT - 3


def test_nothing_fits_and_nothing_is_there(store: Store, engine: Engine) -> None:
    assert store.search(QUERIES, 3, where={"price": {"gt": COUNT}}) == [[] for _ in QUERIES]
    assert store.search(QUERIES[0], 3, where={"price": {"gt": COUNT}}, group_by="product") == []
    with engine.create(DIM) as empty:
        assert empty.search(QUERIES[0], 3) == []
        assert (len(empty), empty.count({"a": 1}), list(empty.iterate()), empty.get("a")) == (0, 0, [], None)
        assert empty.remove(["a"]) == 0


def test_equal_scores_come_in_the_order_of_addition(engine: Engine) -> None:
    with engine.create(4) as store:
        if not traits_of(store).keeps_order:
            pytest.skip("this engine keeps no order, and says so")
        store.add(np.ones((50, 4)), [f"{49 - row}" for row in range(50)])
        expected = [f"{49 - row}" for row in range(50)]
        assert [hit.id for hit in store.search(np.ones(4), 50)] == expected
        assert [hit.id for hit in store.search(np.ones(4), 7, offset=20)] == expected[20:27]
        store.upsert(np.ones((1, 4)), ["30"])
        assert [hit.id for hit in store.search(np.ones(4), 50)][-1] == "30"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0 must be at least 1"),
        ({"k": 2.5}, r"k=2.5 must be a whole number"),
        ({"offset": -1}, "offset=-1 must be at least 0"),
        ({"without": "photo 1"}, "without is a single id"),
        ({"without": ["photo 1", 3]}, "id 3 is a int: ids are texts"),
        ({"distinct": 0}, "distinct=0 must be a cosine above 0, and at most 1"),
        ({"distinct": "all"}, "distinct='all' must be a cosine above 0, and at most 1"),
        ({"group_by": 3}, "group_by=3 must be the name of a field"),
        ({"group_by": ["product"]}, r"group_by=\['product'\] must be the name of a field"),
    ],
)
def test_numbers_that_make_no_page(store: Store, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        store.search(QUERIES[0], **options)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (np.full(DIM, np.nan), "NaN or infinite"),
        (np.zeros(DIM), "all zeros"),
        (np.ones(DIM + 1), f"the index holds \\[N, {DIM}\\]"),
        ("red", "no array of numbers"),
    ],
)
def test_no_query(store: Store, query: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        store.search(query)  # type: ignore[call-overload]


def test_another_models_vectors_are_refused(store: Store) -> None:
    foreign = of_model(QUERIES.copy(), "fedcba9876543210")
    with pytest.raises(IndexFileError, match="these vectors with fedcba9876543210"):
        store.search(foreign, 3)
    with pytest.raises(IndexFileError, match="these vectors with fedcba9876543210"):
        store.upsert(foreign, ["a", "b", "c", "d", "e"])
    own = of_model(QUERIES.copy(), FINGERPRINT)
    assert len(store.search(own, 3)) == len(QUERIES)
    assert store.count() == COUNT


def test_it_knows_its_model_when_it_is_opened_again(store: Store) -> None:
    with again(store) as opened:
        assert (opened.model, opened.fingerprint, opened.dim, opened.artifact) == ("tiny", FINGERPRINT, DIM, None)
        assert opened.count() == COUNT
        assert [hit.id for hit in opened.search(QUERIES[0], 9)] == CORPUS.nearest(QUERIES[0], 9)
        np.testing.assert_allclose(opened.vector("photo 7"), VECTORS[7], atol=1e-6)
        with pytest.raises(ConfigError, match="no entry has the id 'photo'"):
            opened.vector("photo")


def test_samples_are_spread_and_changes_are_told(engine: Engine) -> None:
    with engine.create(DIM) as store:
        assert store.sample(3) == []
        states = [store.change]
        store.add(VECTORS, CORPUS.ids)
        states.append(store.change)
        sampled = store.sample(7)
        places = [CORPUS.ids.index(entry.id) for entry in sampled]
        np.testing.assert_allclose([entry.vector for entry in sampled], VECTORS[places], atol=1e-6)
        assert len(set(places)) == 7
        if traits_of(store).keeps_order:
            assert np.diff(places).max() <= 50
            assert places == sorted(places)
        assert sorted(entry.id for entry in store.sample(10 * COUNT)) == sorted(CORPUS.ids)
        store.remove(CORPUS.ids[0])
        states.append(store.change)
        assert len(set(states)) == 3
        with pytest.raises(ConfigError, match="most=0 must be at least 1"):
            store.sample(0)


def test_what_is_closed_says_so(engine: Engine) -> None:
    store = engine.create(4)
    store.close()
    store.close()
    for call in (
        len,
        lambda store: store.get("a"),
        lambda store: store.search(np.ones(4)),
        lambda store: store.remove("a"),
    ):
        with pytest.raises(IndexFileError, match="closed"):
            call(store)

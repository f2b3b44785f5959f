"""What is written is there once, for everybody, as it was given; or refused in one line, whole."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from search_engines import FINGERPRINT, Engine, again

from protoclip.contract.errors import ConfigError, IndexFileError
from protoclip.search import Store, create_index, open_index, traits_of

DIM = 4
ODD_IDS = [
    "",
    " ",
    "plain.jpg",
    "名前/é👠.png",
    "a'b\"c\\d;--",
    "new\nline\ttab",
    "nul\0in it",
    "caf\udce9.jpg",
    "%s %d {} $1 :name",
    "x" * 5000,
    "é" * 9000,
]
ODD_METADATA: list[dict[str, Any]] = [
    {},
    {"a": None, "b": [1, 2.0, "3", None, True, {"c": []}], "": {"": ""}},
    {"whole": 1, "real": 1.0, "large": 10**40, "small": 5e-324, "e": 1e30, "minus": -0.0, "third": 1 / 3},
    {"nul": "a\0b", "a\0b": 1, "surrogate": "caf\udce9", "caf\udce9": "x", "line": "a\nb\u2028"},
    {"名前": "靴👠", 'quote"': "it's \\ %s {} ?", "x": "y" * 20_000},
    {"price": "49", "flag": "true", "null": "null"},
    {"true": True, "false": False},
    {"deep": [[[[[[1]]]]]]},
    {"z": 1, "a": 2},
    {"n": 9007199254740993, "m": 2**63 - 1, "k": -(2**63)},
    {"nan": "NaN", "inf": "Infinity"},
]


def vectors(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


def names(store: Store) -> list[str]:
    return sorted(entry.id for entry in store.iterate())


def test_odd_ids_and_metadata_come_back_as_they_were(engine: Engine) -> None:
    with engine.create(DIM) as store:
        given = vectors(len(ODD_IDS))
        store.add(given, ODD_IDS, ODD_METADATA)
    with again(store) as store:
        assert sorted(names(store)) == sorted(ODD_IDS)
        for name, metadata, vector in zip(ODD_IDS, ODD_METADATA, given, strict=True):
            entry = store.get(name)
            assert entry is not None, name[:20]
            assert repr(dict(entry.metadata)) == repr(metadata)
            np.testing.assert_allclose(entry.vector, vector / np.linalg.norm(vector), atol=1e-6)
            assert entry.vector.dtype == np.float32
            assert store.search(vector, 1)[0].id == name
        hits = store.search(given[0], 20, without=ODD_IDS[1:])
        assert [hit.id for hit in hits] == [""]
        assert store.remove(ODD_IDS[::2]) == 6
        assert names(store) == sorted(ODD_IDS[1::2])


def test_what_an_engine_cant_hold_is_refused_in_one_line(engine: Engine) -> None:
    with engine.create(DIM) as store:
        large = "x" * 70_000
        for name, metadata in ((large, {}), ("a", {"text": large})):
            if "milvus" in engine.name:
                with pytest.raises(ConfigError, match=r"takes 70,\d+ bytes as Milvus stores it") as caught:
                    store.add(vectors(1), [name], [metadata])
                assert len(str(caught.value)) < 400
            else:
                store.add(vectors(1), [name], [metadata])
                assert store.get(name).metadata == metadata  # type: ignore[union-attr]
                store.remove(name)
        assert store.count() == 0


@pytest.mark.parametrize(
    ("rows", "ids", "metadata", "message"),
    [
        (np.array([[1.0, 0, 0, 0], [np.nan, 0, 0, 0]]), ["a", "b"], None, "row 1 has NaN"),
        (np.array([[1.0, 0, 0, 0], [0, 0, 0, 0]]), ["a", "b"], None, "row 1 is all zeros"),
        (np.ones((2, 3)), ["a", "b"], None, r"the index holds \[N, 4\]"),
        (np.ones((2, 4)), ["a"], None, "2 vectors need as many ids"),
        (np.ones((2, 4)), ["a", "a"], None, "'a' is there twice"),
        (np.ones((2, 4)), ["a", "there"], None, "'there' is there twice"),
        (np.ones((2, 4)), ["a", 3], None, "id 3 is a int"),
        (np.ones((2, 4)), ["a", "b"], [{}], "2 vectors need as many metadata"),
        (np.ones((2, 4)), ["a", "b"], [{}, {"x": float("nan")}], "can't be written as JSON"),
        (np.ones((2, 4)), ["a", "b"], [{}, {"x": {1}}], "can't be written as JSON"),
        (np.ones((2, 4)), ["a", "b"], [{}, {3: 1}], "no mapping from texts"),
    ],
)
def test_a_bad_call_writes_nothing(engine: Engine, rows: Any, ids: Any, metadata: Any, message: str) -> None:
    with engine.create(DIM) as store:
        store.add(vectors(1), ["there"], [{"own": 1}])
        with pytest.raises(ConfigError, match=message):
            store.add(rows, ids, metadata)
        assert names(store) == ["there"]
        assert store.get("there").metadata == {"own": 1}  # type: ignore[union-attr]


def test_what_is_nested_too_deep_is_refused(engine: Engine) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with engine.create(DIM) as store:
        with pytest.raises(ConfigError, match="metadata of 'b' can't be written as JSON: it is nested too deep"):
            store.add(vectors(2), ["a", "b"], [{}, {"x": deep}])
        assert names(store) == []


def test_ids_that_are_no_texts(engine: Engine) -> None:
    with engine.create(DIM) as store:
        store.add(vectors(1), ["3"])
        calls: list[Any] = [store.get, store.vector, lambda name: store.remove([name])]
        for call in calls:
            with pytest.raises(ConfigError, match="id 3 is a int: ids are texts"):
                call(3)
        assert names(store) == ["3"]


def test_upserts_replace_and_removals_count(engine: Engine) -> None:
    with engine.create(DIM) as store:
        store.add([], [])
        store.add(vectors(6), list("abcdef"), [{"n": row} for row in range(6)])
        store.upsert(vectors(3, seed=1), ["b", "new", "e"], [{"n": 10}, {"n": 11}, {"n": 12}])
        assert names(store) == ["a", "b", "c", "d", "e", "f", "new"]
        assert store.count({"n": {"ge": 10}}) == 3
        assert store.search(vectors(3, seed=1)[0], 1)[0].id == "b"
        assert store.remove(["a", "a", "gone", "new"]) == 2
        assert store.remove("b") == 1
        assert store.remove([]) == 0
        assert names(store) == ["c", "d", "e", "f"]
        hits = store.search(vectors(6), 10)
        assert {hit.id for one in hits for hit in one} == {"c", "d", "e", "f"}
        store.add(vectors(1), ["a"])
    with again(store) as store:
        assert names(store) == ["a", "c", "d", "e", "f"]
        assert store.get("e").metadata == {"n": 12}  # type: ignore[union-attr]
        if traits_of(store).keeps_order:
            assert [entry.id for entry in store.iterate()] == ["c", "d", "f", "e", "a"]


def test_an_id_in_two_batches(engine: Engine) -> None:
    with engine.create(DIM) as store:
        store.add(vectors(3), ["a", "b", "c"], [{"batch": 1}] * 3)
        with pytest.raises(ConfigError, match="'b' is there twice"):
            store.add(vectors(2), ["d", "b"], [{"batch": 2}] * 2)
        store.upsert(vectors(2), ["b", "d"], [{"batch": 3}] * 2)
        assert {entry.id: entry.metadata["batch"] for entry in store.iterate()} == {"a": 1, "b": 3, "c": 1, "d": 3}


def test_others_see_what_was_written_and_an_iteration_what_was_there(engine: Engine) -> None:
    with engine.create(DIM) as writer, again(writer) as reader:
        for number in range(5):
            writer.add(vectors(3, seed=number), [f"{number}/{row}" for row in range(3)])
            assert (reader.count(), len(reader.search(vectors(1)[0], 100))) == (3 * number + 3, 3 * number + 3)
        entries = reader.iterate()
        first = next(entries).id
        writer.remove([name for name in names(writer) if name != first])
        writer.add(vectors(1), ["new"])
        rest = [entry.id for entry in entries]
        if traits_of(reader).snapshots:
            assert len(rest) == 14
            assert "new" not in rest
        assert names(reader) == sorted([first, "new"])


def test_two_writers_at_once(engine: Engine) -> None:
    """Each upserts its own entries and some that both have; every reader's state is one of whole calls."""
    rounds, shared = 12, [f"shared {row}" for row in range(6)]
    errors: list[Exception] = []

    def write(store: Store, who: int) -> None:
        try:
            with again(store) as own:
                for number in range(rounds):
                    ids = [f"{who}/{number}/{row}" for row in range(4)]
                    order = shared if who else shared[::-1]
                    own.upsert(vectors(10, seed=who), [*ids, *order], [{"who": who, "round": number}] * 10)
                    own.remove(ids[:1])
        except Exception as error:  # noqa: BLE001 - the test raises it
            errors.append(error)

    with engine.create(DIM) as store:
        writers = [threading.Thread(target=write, args=(store, who)) for who in (0, 1)]
        for writer in writers:
            writer.start()
        looks = 0
        while any(writer.is_alive() for writer in writers):
            looks += 1
            if traits_of(store).transactions:
                of_both = [entry.metadata for entry in store.iterate() if entry.id.startswith("shared")]
                assert len(of_both) in (0, 6)
                assert all(one == of_both[0] for one in of_both), "half of a call was seen"
        for writer in writers:
            writer.join()
        assert errors == []
        assert looks > 0
        expected = [f"{who}/{number}/{row}" for who in (0, 1) for number in range(rounds) for row in (1, 2, 3)]
        assert names(store) == sorted([*expected, *shared])
        assert store.count() == len(expected) + len(shared)


def test_of_two_adds_of_one_id_one_is_refused(engine: Engine) -> None:
    with engine.create(DIM) as store:
        if not traits_of(store).unique_ids:
            pytest.skip("this engine promises nothing of two adds at once, and says so")
        outcomes: list[str] = []
        refusals: list[str] = []

        def add(who: int) -> None:
            with again(store) as own:
                for number in range(15):
                    try:
                        own.add(vectors(2), [f"{number}", f"{number} of {who}"], [{"who": who}] * 2)
                        outcomes.append(f"{number}")
                    except ConfigError as error:
                        refusals.append(str(error))

        writers = [threading.Thread(target=add, args=(who,)) for who in range(3)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert sorted(outcomes, key=int) == [f"{number}" for number in range(15)]
        assert len(refusals) == 30
        assert all("is there twice" in refusal for refusal in refusals)
        assert store.count() == 30


def test_places_that_are_taken_or_empty(engine: Engine) -> None:
    address = engine.new_address()
    with pytest.raises(IndexFileError, match="no index is here"):
        open_index(address)
    with create_index(address, FINGERPRINT, DIM, exact=True) as store:
        store.add(vectors(1), ["a"])
    with pytest.raises(IndexFileError, match=r"an index is here: open it, or give replace=True"):
        create_index(address, FINGERPRINT, DIM)
    with open_index(address) as old, create_index(address, "fedcba9876543210", 6, exact=True, replace=True) as new:
        assert (len(new), new.fingerprint, new.dim) == (0, "fedcba9876543210", 6)
        for call in (
            len,
            lambda store: store.upsert(vectors(1), ["b"]),
            lambda store: store.search(vectors(1)[0]),
        ):
            with pytest.raises(IndexFileError, match="another model meanwhile"):
                call(old)
        assert len(new) == 0


@pytest.mark.parametrize(("fingerprint", "dim"), [("", 4), ("x'; DROP", 4), (FINGERPRINT, 0)])
def test_facts_that_are_no_models(engine: Engine, fingerprint: str, dim: int) -> None:
    address = engine.new_address()
    with pytest.raises(ConfigError, match=r"must be"):
        create_index(address, fingerprint, dim)
    with pytest.raises(IndexFileError, match="no index is here"):
        open_index(address)

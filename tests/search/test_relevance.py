"""Relevance: what an index learns from its own entries, and searches that find nothing.

The model is made up: a text is a direction, and pictures of it lie around that, with a gap between the two.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save

from protoclip.client import Client, InMemoryTransport, MemoryModel
from protoclip.contract.errors import ConfigError, DataError, IndexFileError
from protoclip.search import Hit, Index, RelevanceWarning, copy_index, left_behind
from protoclip.search.approximate import choosing

FINGERPRINT = "0123456789abcdef"
DIM, CONCEPTS, PRESENT, PICTURES = 24, 220, 150, 3
_RANDOM = np.random.default_rng(3)
# Ten things of a kind lie near to each other.
DIRECTIONS = np.repeat(_RANDOM.standard_normal((CONCEPTS // 10, DIM)), 10, axis=0) + 0.9 * _RANDOM.standard_normal(
    (CONCEPTS, DIM)
)
GAP = 2 * _RANDOM.standard_normal(DIM)
NAMES = [f"thing {number}" for number in range(CONCEPTS)]


def text_vector(item: Any) -> NDArray[np.float32]:
    return np.asarray(DIRECTIONS[int(str(item).split()[1])] + GAP, dtype=np.float32)


def picture_vectors(count: int = PRESENT, seed: int = 1) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).standard_normal((count, PICTURES, DIM))
    return np.asarray(DIRECTIONS[:count, np.newaxis] + 0.9 * noise, dtype=np.float32).reshape(-1, DIM)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    model = MemoryModel(text_vector, text_vector, DIM, name="things", fingerprint=FINGERPRINT)
    with Client(transport=InMemoryTransport(model)) as client:
        yield client


def filled(path: Path, count: int = PRESENT) -> Index:
    index = Index.create(path, FINGERPRINT, DIM, model="things")
    names = [name for name in NAMES[:count] for _ in range(PICTURES)]
    facts = [{"name": name, "kind": f"kind {int(name.split()[1]) // 10}"} for name in names]
    index.add(picture_vectors(count), [f"{row}.png" for row in range(len(names))], facts)
    return index


@pytest.fixture(scope="module")
def calibrated(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("things") / "x.index"
    with filled(path) as index:
        index.calibrate(client, "name", group="kind")
    return path


@pytest.fixture
def index(calibrated: Path) -> Iterator[Index]:
    with Index.open(calibrated) as index:
        yield index


@pytest.fixture
def copied(calibrated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(calibrated, tmp_path / "copy.index"))


def meant(hits: list[Hit], name: str) -> list[Hit]:
    return [hit for hit in hits if hit.metadata["name"] == name]


def seen(hits: list[Hit]) -> list[tuple[str, float]]:
    """Ids and relevance, but for the rounding of products of other shapes."""
    return [(hit.id, round(hit.relevance or 0, 4)) for hit in hits]


def write(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "index.sqlite")
    with connection:
        connection.execute(statement)
    connection.close()


def test_what_is_missing_is_not_found_and_what_is_there_is(client: Client, index: Index) -> None:
    """The last kinds were never in the index, nor among the queries it learned from."""
    calibration = index.relevance
    assert calibration is not None
    least = calibration.text.advised.value
    missing = index.search(client.embed_texts(NAMES[PRESENT:]), min_relevance=least, query_kind="text")
    assert np.mean([not hits for hits in missing]) >= 0.8
    asked = client.embed_texts(NAMES[:PRESENT])
    shown, kept = (
        sum(len(meant(hits, name)) for hits, name in zip(found, NAMES, strict=False))
        for found in (index.search(asked), index.search(asked, min_relevance=least, query_kind="text"))
    )
    assert kept >= 0.85 * shown


def test_what_it_says_of_itself(index: Index) -> None:
    found = index.relevance
    assert found is not None
    assert (found.field, found.group, found.entries, found.fingerprint) == ("name", "kind", 450, FINGERPRINT)
    assert found.text.queries == PRESENT
    assert found.text.hits == sum(one.count for one in found.text.bins) == 2 * PRESENT * 10
    assert found.text.error <= 0.05
    assert found.text.advised.kept >= 0.9
    assert found.text.advised.empty > found.text.by_cosine.empty
    assert found.image is not None
    assert found.image.queries == 450


def test_the_relevance_of_a_hit_is_the_same_on_every_page(client: Client, index: Index) -> None:
    whole = client.search(index, text="thing 7", k=12, min_relevance=0)
    page = client.search(index, text="thing 7", k=2, offset=9, min_relevance=0)
    assert seen(page) == seen(whole[9:11])
    assert seen(client.search(index, text="thing 7", k=1, min_relevance=0)) == seen(whole[:1])
    assert all(hit.relevance is not None and 0 < hit.relevance < 1 for hit in whole)
    least = sorted(hit.relevance or 0 for hit in whole)[6]
    some = client.search(index, text="thing 7", k=12, min_relevance=least)
    assert some == [hit for hit in whole if (hit.relevance or 0) >= least]
    assert len(some) == 6


def test_groups_and_conditions_have_relevance_too(client: Client, index: Index) -> None:
    best = client.search(index, text="thing 7", k=2, group_by="name", min_relevance=0)
    assert seen(best[:1]) == seen(client.search(index, text="thing 7", k=1, min_relevance=0))
    assert len({hit.metadata["name"] for hit in best}) == 2
    fits = client.search(index, text="thing 7", where={"name": "thing 7"}, min_relevance=0)
    assert [hit.relevance is not None for hit in fits] == [True] * PICTURES
    other = client.search(index, text="thing 7", where={"kind": "kind 3"}, min_relevance=0)
    assert max(hit.relevance or 0 for hit in other) < max(hit.relevance or 0 for hit in fits)
    assert client.search(index, text="thing 7", where={"name": "none"}, min_relevance=0) == []


def test_texts_and_pictures_are_judged_apart(client: Client, index: Index) -> None:
    vector = client.embed_texts("thing 7")
    as_text, as_picture = (index.search(vector, 5, min_relevance=0, query_kind=kind) for kind in ("text", "image"))
    assert [hit.relevance for hit in as_text] != [hit.relevance for hit in as_picture]
    assert seen(index.search(vector, 5, min_relevance=0)) == seen(as_text)
    like = client.search(index, like="0.png", k=5, min_relevance=0)
    same = index.search(index.vector("0.png"), 5, without=["0.png"], min_relevance=0, query_kind="image")
    assert seen(like) == seen(same)
    both = index.search(np.stack([vector, index.vector("0.png")]), 3, min_relevance=0, query_kind="text")
    assert seen(both[0]) == seen(as_text[:3])


def test_without_min_relevance_nothing_changes(client: Client, index: Index) -> None:
    hits = client.search(index, text="thing 219")
    assert len(hits) == 10
    assert {hit.relevance for hit in hits} == {None}


@pytest.mark.parametrize("value", [-0.1, 1.5, True, "0.5", float("nan")])
def test_no_probability(index: Index, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"min_relevance=.* must be a number from 0 to 1"):
        index.search(np.ones(DIM), min_relevance=value)


def test_an_index_that_is_not_calibrated(client: Client, tmp_path: Path) -> None:
    with filled(tmp_path / "x.index", 10) as index:
        assert index.relevance is None
        with pytest.raises(
            ConfigError, match=r"min_relevance \(--min-relevance\) needs an index that is calibrated"
        ):
            client.search(index, text="thing 1", min_relevance=0.5)


def test_a_calibration_of_another_model(copied: Path) -> None:
    write(copied, "UPDATE meta SET value = 'abcd' WHERE name = 'fingerprint'")
    with Index.open(copied) as index:
        assert index.relevance is None
        with pytest.raises(
            ConfigError, match=f"is calibrated for things {FINGERPRINT}, and its vectors are of things abcd"
        ):
            index.search(np.ones(DIM), min_relevance=0.5)


def test_an_unknown_kind(index: Index) -> None:
    kind: Any = "sound"
    with pytest.raises(ConfigError, match="query_kind='sound' is unknown"):
        index.search(np.ones(DIM), min_relevance=0.5, query_kind=kind)


def test_pictures_that_have_no_others_are_not_calibrated(client: Client, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "x.index", FINGERPRINT, DIM)
    index.add(picture_vectors()[::PICTURES], NAMES[:PRESENT], [{"name": [name]} for name in NAMES[:PRESENT]])
    found = index.calibrate(client, "name")
    assert found.image is None
    with pytest.raises(ConfigError, match="is calibrated for texts alone"):
        client.search(index, like="thing 1", min_relevance=0.5)
    assert client.search(index, text="thing 1", min_relevance=0)


def test_queries_with_given_answers(client: Client, tmp_path: Path) -> None:
    with filled(tmp_path / "x.index", 110) as index:
        asked = {
            NAMES[row]: [f"{PICTURES * row + number}.png" for number in range(PICTURES)] for row in range(110)
        }
        found = index.calibrate(client, queries=asked, group="kind")
        assert (found.field, found.group, found.text.queries) == ("", "kind", 110)
        by_field = index.calibrate(client, "name", group="kind")
        assert found.text == by_field.text
        with pytest.raises(
            ConfigError, match=r"queries \(--queries\): no entry has the id 'z.png', the answer to 'a'"
        ):
            index.calibrate(client, queries={**asked, "a": ["z.png"]})
        with pytest.raises(ConfigError, match=r"calibrate needs queries: field \(--text-column\)"):
            index.calibrate(client)
        with pytest.raises(ConfigError, match=r"queries: 'a' has '0\.png': give a list of ids"):
            index.calibrate(client, queries={"a": "0.png"})


def test_what_can_not_be_learned_from(client: Client, index: Index, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"field='title' \(--text-column\): no entry has a text in this field"):
        index.calibrate(client, "title")
    with pytest.raises(ConfigError, match=r"group='shelf' \(--group-by\): no entry has this field"):
        index.calibrate(client, "name", group="shelf")
    with pytest.raises(DataError, match="40 texts have known answers, too few to learn from: 100 are needed"):
        filled(tmp_path / "few.index", 40).calibrate(client, "name")
    one = Index.create(tmp_path / "one.index", FINGERPRINT, DIM)
    one.add(
        picture_vectors()[::PICTURES], NAMES[:PRESENT], [{"name": name, "kind": 1} for name in NAMES[:PRESENT]]
    )
    with pytest.raises(DataError, match="from 150 texts nothing can be learned"):
        one.calibrate(client, "name", group="kind")
    assert one.relevance is None


def test_it_is_due_when_the_index_has_doubled(client: Client, copied: Path) -> None:
    with Index.open(copied) as index:
        more = picture_vectors(160, seed=2)
        index.add(more, [f"{row}.jpg" for row in range(len(more))])
        with pytest.warns(RelevanceWarning, match="holds 930 entries, and was calibrated with 450"):
            client.search(index, text="thing 1", min_relevance=0.5)


def test_a_copy_on_this_machine_is_calibrated_as_well(client: Client, index: Index, tmp_path: Path) -> None:
    assert left_behind(index, tmp_path / "copy.index") == ()
    assert left_behind(index, "milvus://here/x") == ("its calibration, which `min_relevance` needs",)
    copy_index(index, str(tmp_path / "copy.index"))
    with Index.open(tmp_path / "copy.index") as made:
        assert made.relevance == index.relevance
        found = client.search(made, text="thing 7", min_relevance=0)
    assert seen(found) == seen(client.search(index, text="thing 7", min_relevance=0))


def without_numbers(arrays: dict[str, Any]) -> None:
    arrays["of_hit"] = np.full_like(arrays["of_hit"], np.nan)


def of_other_features(arrays: dict[str, Any]) -> None:
    arrays["of_query"] = arrays["of_query"][:, :-1]


def divided_by_zero(arrays: dict[str, Any]) -> None:
    arrays["of_both"][1] = 0


@pytest.mark.parametrize("damage", [None, without_numbers, of_other_features, divided_by_zero])
def test_a_damaged_calibration_says_so(
    client: Client, copied: Path, damage: Callable[[dict[str, Any]], None] | None
) -> None:
    data = b"\x01\x02"
    if damage is not None:
        with sqlite3.connect(copied / "index.sqlite") as connection:
            arrays = load(connection.execute("SELECT data FROM relevance WHERE kind = 'text'").fetchone()[0])
        damage(arrays)
        data = save(arrays)
    write(copied, f"UPDATE relevance SET data = x'{data.hex()}' WHERE kind = 'text'")
    with (
        Index.open(copied) as index,
        pytest.raises(IndexFileError, match="its calibration is damaged: make it anew"),
    ):
        client.search(index, text="thing 1", min_relevance=0.5)


def test_approximate_searches_are_judged_as_exact_ones(
    client: Client, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "LEAST_SPEEDUP", 0.0)
    index = Index.open(copied)
    tuned = index.tune(0.9, client.embed_texts(NAMES[:PRESENT]))
    assert tuned.by_other.is_approximate
    vector = client.embed_texts("thing 7")
    found, exact = (index.search(vector, 5, min_relevance=0, exact=exact) for exact in (False, True))
    assert found[0].relevance == pytest.approx(exact[0].relevance, abs=0.2)
    assert all(hit.relevance is not None for hit in found)

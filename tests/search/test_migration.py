"""An index moves to another model: all of it or nothing, with the same ids and metadata, while others use it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from counting_models import NEW, OLD, CountingModel, failing_at, picture, vector, write_pictures
from pyarrow import parquet

from protoclip.contract.errors import ConfigError, DataError, IndexBusyError, IndexFileError, ServerError
from protoclip.contract.picture_folders import Skipped
from protoclip.search import BuildProgress, Index, Migrating, NotEmbedded, SkippedWarning, upkeep
from protoclip.sources import ReadOptions

CLEAN = ["index.sqlite", "writer.lock"]
METADATA = {f"{number}.png": {"price": number, "name": "è"} for number in range(10)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An index of ten pictures, made with the old model."""
    write_pictures(tmp_path / "photos")
    with CountingModel(OLD).client() as client:
        Index.build(tmp_path / "x.index", client, tmp_path / "photos", METADATA).close()
    return tmp_path / "x.index"


def labels(path: Path) -> list[tuple[str, dict[str, Any]]]:
    with Index.open(path) as index:
        return [(entry.id, dict(entry.metadata)) for entry in index.iterate()]


def check_vectors(path: Path, items: dict[str, Any], fingerprint: str = NEW) -> None:
    """Every entry has the vector of its item, and is found by it."""
    with Index.open(path) as index:
        assert index.fingerprint == fingerprint
        assert [entry.id for entry in index.iterate()] == list(items)
        for entry in index.iterate():
            expected = vector(fingerprint, items[entry.id])
            np.testing.assert_allclose(entry.vector, expected, atol=1e-6)
            assert index.search(expected, 1)[0].id == entry.id


def pictures(count: int = 10) -> dict[str, bytes]:
    return {f"{number}.png": picture(number) for number in range(count)}


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


def migrate(path: Path, model: CountingModel, images: Any = None, **options: Any) -> Any:
    with model.client() as client, Index.open(path) as index:
        return index.migrate(client, images, **options)


def test_all_entries_get_the_new_models_vectors(path: Path) -> None:
    before, model = labels(path), CountingModel(NEW)
    told: list[BuildProgress] = []
    with model.client() as client, Index.open(path) as index:
        migrated = index.migrate(client, progress=told.append)
        # The same Index goes on with the new model.
        assert (index.fingerprint, index.dim, index.model) == (NEW, 6, "tiny")
        assert client.search(index, image=picture(3), k=1)[0].id == "3.png"
        index.add(client.embed_images([b"more"]), ["more"])
        index.remove("more")
    assert (migrated.entries, migrated.embedded, migrated.resumed, migrated.left_out) == (10, 10, 0, ())
    assert told[-1] == BuildProgress(10, 0, 10, 0)
    assert labels(path) == before
    check_vectors(path, pictures())
    assert names(path) == CLEAN
    # Once more is nothing to do.
    assert migrate(path, model).embedded == 0
    assert len(model.seen) == 12


def test_and_a_third_models_and_back(path: Path) -> None:
    before = labels(path)
    for fingerprint in ("abcdef00", NEW, OLD):
        assert migrate(path, CountingModel(fingerprint)).embedded == 10
        check_vectors(path, pictures(), fingerprint)
    assert labels(path) == before


def test_with_segments_of_other_dimensions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "SEGMENT_ROWS", 3)
    with Index.open(path) as index:
        index.compact()
        assert index.stats().segments == 1
    migrate(path, CountingModel(NEW))
    check_vectors(path, pictures())
    with Index.open(path) as index:
        assert index.stats().segments == 1
    assert len(names(path)) == 3


@pytest.mark.parametrize("error", [ServerError, KeyboardInterrupt])
def test_interrupted_it_goes_on(path: Path, error: type[BaseException]) -> None:
    before, model = labels(path), CountingModel(NEW, failing_at(picture(7), error))
    with pytest.raises(error):
        migrate(path, model)
    seen = list(model.seen)
    with Index.open(path) as index, model.client() as new, CountingModel(OLD).client() as old:
        assert index.fingerprint == OLD
        assert index.search(old.embed_images(picture(7)), 1)[0].id == "7.png"
        state = index.migrating
        assert isinstance(state, Migrating)
        assert (state.model, state.fingerprint, state.dim, state.total) == ("tiny", NEW, 6, 10)
        stored = state.done
        message = (
            rf"its migration to tiny {NEW} isn't finished, {stored} of 10 entries are done: until then use tiny"
        )
        with pytest.raises(IndexFileError, match=message):
            index.search(new.embed_images(picture(0)))
        with pytest.raises(IndexFileError, match=message):
            new.search(index, image=picture(0))
    model.at = lambda item: None
    seen = list(model.seen)
    migrated = migrate(path, model)
    assert (migrated.resumed, migrated.embedded) == (stored, 10 - stored)
    assert stored in (4, 6)
    assert model.seen[len(seen) :] == [picture(number) for number in range(stored, 10)]
    assert labels(path) == before
    check_vectors(path, pictures())
    assert names(path) == CLEAN


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from counting_models import NEW, CountingModel, picture
from protoclip.search import Index
def die(item):
    if item == picture(7):
        os.kill(os.getpid(), signal.SIGKILL)
with CountingModel(NEW, die).client() as client, Index.open(sys.argv[1]) as index:
    index.migrate(client)
"""


def test_killed_it_goes_on(path: Path) -> None:
    before, model = labels(path), CountingModel(NEW)
    command = [sys.executable, "-c", KILLED, str(path), str(Path(__file__).parents[1] / "support")]
    with Index.open(path) as reader:
        assert subprocess.run(command, check=False).returncode == -9
        assert reader.search(vector(OLD, picture(7)), 1)[0].id == "7.png"
        with Index.open(path) as writer:
            # Any number of calls later.
            writer.remove("9.png")
        migrated = migrate(path, model)
        assert migrated.resumed > 0
        assert picture(0) not in model.seen
        with pytest.raises(IndexFileError, match="open it again"):
            reader.search(vector(OLD, picture(7)), 1)
    assert labels(path) == before[:-1]
    check_vectors(path, pictures(9))
    assert names(path) == CLEAN


def test_others_read_and_write_meanwhile(path: Path) -> None:
    """Removed, replaced and added entries; what was added is among the pictures that are given."""
    more = {"5.png": b"another 5", "new.png": b"new"}

    def meanwhile(item: Any) -> None:
        if item != picture(6):
            return
        with Index.open(path) as index, CountingModel(OLD).client() as old:
            assert index.search(old.embed_images(picture(8)), 1)[0].id == "8.png"
            index.remove(["0.png", "8.png"])
            index.upsert(old.embed_images(list(more.values())), list(more), [{"price": 55}, {"price": 100}])
            index.compact()

    expected = {**pictures(), **more}
    migrated = migrate(path, CountingModel(NEW, meanwhile), expected)
    for name in ("0.png", "8.png", "5.png"):
        expected.pop(name)
    order = [name for name in expected if name != "new.png"]
    check_vectors(path, {**{name: expected[name] for name in order}, **more})
    assert migrated.entries == 9
    assert labels(path)[-2:] == [("5.png", {"price": 55}), ("new.png", {"price": 100})]


def test_gone_broken_and_added_entries_are_named_and_nothing_changes(path: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "3.png").unlink()
    (tmp_path / "photos" / "4.png").write_bytes(b"broken")
    with Index.open(path) as index:
        index.add([vector(OLD, "x")], ["added"], [{"price": 11}])
        # Of this vector, nobody knows whether the picture of that name is its picture.
        index.upsert([vector(OLD, "y")], ["6.png"])
    before = labels(path)
    with pytest.raises(
        NotEmbedded, match=r"4 of 11 entries can't be embedded again, among them '3\.png'"
    ) as caught:
        migrate(path, CountingModel(NEW))
    added = "it was added, and of such entries the index doesn't know the picture"
    assert caught.value.entries == (
        Skipped("3.png", "its picture is not there any more"),
        Skipped("4.png", "no picture"),
        Skipped("added", added),
        Skipped("6.png", added),
    )
    assert labels(path) == before
    with Index.open(path) as index:
        assert (index.fingerprint, index.migrating is None) == (OLD, False)

    given = {"3.png": b"3", "4.png": b"4", "added": b"x", "6.png": b"6"}
    model = CountingModel(NEW)
    assert migrate(path, model, given).left_out == ()
    assert sorted(model.seen) == sorted(given.values())
    assert labels(path) == before
    check_vectors(path, {name: {**pictures(), **given}[name] for name, _ in before})


def test_they_are_left_out_when_that_is_asked_for(path: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "3.png").unlink()
    migrated = migrate(path, CountingModel(NEW), leave_out=True)
    assert migrated.left_out == (Skipped("3.png", "its picture is not there any more"),)
    check_vectors(path, {name: data for name, data in pictures().items() if name != "3.png"})
    with Index.open(path) as index:
        assert index.skipped == migrated.left_out
    shutil.rmtree(tmp_path / "photos")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0.png").write_bytes(b"broken")
    with pytest.raises(NotEmbedded, match="9 of 9 entries"):
        migrate(path, CountingModel(OLD), leave_out=True)
    assert len(labels(path)) == 9
    assert names(path) == CLEAN


def test_pictures_that_have_moved(path: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"photos: .*: say where the pictures are now with images= \(--images\)"):
        migrate(path, CountingModel(NEW))
    assert names(path) == CLEAN
    migrate(path, CountingModel(NEW), tmp_path / "moved")
    check_vectors(path, pictures())
    # The new place is remembered.
    migrate(path, CountingModel(OLD))
    check_vectors(path, pictures(), OLD)


@pytest.mark.parametrize("kind", ["paths", "relative", "texts", "table", "bytes", "other texts", "created"])
def test_what_it_was_built_from(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "photos", 3)
    rows = [picture(number) for number in range(3)]
    parquet.write_table(pa.table({"image": rows, "price": [1, 2, 3]}), tmp_path / "t.parquet")
    place = Path("photos") if kind == "relative" else tmp_path / "photos"
    paths = [str(place / f"{number}.png") for number in range(3)]
    made: dict[str, Any] = {
        "paths": {"images": paths},
        "relative": {"images": [Path(name) for name in paths]},
        "texts": {"texts": ["a", "b", "c"]},
        "other texts": {"texts": ["a", "b", "c"], "metadata": {"0": {"text": "z"}}},
        "table": {"images": "t.parquet"},
        "bytes": {"images": rows},
    }
    with CountingModel(OLD).client() as client:
        if kind == "created":
            with Index.create("x.index", OLD, 4) as index:
                index.add([vector(OLD, "a")], ["a"])
        else:
            Index.build("x.index", client, **made[kind]).close()
    before = labels(Path("x.index"))
    monkeypatch.chdir("/")
    if kind in ("bytes", "other texts", "created"):
        with pytest.raises(
            ConfigError, match=r"x.index: doesn't say where its pictures are.*images= \(--images\)"
        ):
            migrate(tmp_path / "x.index", CountingModel(NEW))
        assert names(tmp_path / "x.index") == CLEAN
        return
    migrate(tmp_path / "x.index", CountingModel(NEW))
    items = ["a", "b", "c"] if kind == "texts" else rows
    check_vectors(tmp_path / "x.index", dict(zip((name for name, _ in before), items, strict=True)))
    assert labels(tmp_path / "x.index") == before


def test_a_build_in_its_place_ends_it(path: Path, tmp_path: Path) -> None:
    def build(item: Any) -> None:
        if item == picture(6):
            with CountingModel(OLD).client() as client:
                Index.build(path, client, tmp_path / "photos").close()

    with pytest.raises(IndexFileError, match="was built again meanwhile: migrate it again"):
        migrate(path, CountingModel(NEW, build))
    with Index.open(path) as index:
        assert (index.fingerprint, index.migrating) == (OLD, None)
        index.remove("9.png")
    # The next call that writes takes away what is of no use.
    assert names(path) == CLEAN
    migrate(path, CountingModel(NEW))
    check_vectors(path, pictures(9))


def test_killed_between_the_switch_and_the_removal_of_the_draft(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("protoclip.search.opening.tidy", die)
        with pytest.raises(KeyboardInterrupt):
            migrate(path, CountingModel(NEW))
    assert "migrating.sqlite" in names(path)
    check_vectors(path, pictures())
    with Index.open(path) as index:
        assert index.migrating is None
        index.compact()
    assert names(path) == CLEAN


def test_a_full_disk_at_the_switch_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ServerError("no space")

    model = CountingModel(NEW)
    with monkeypatch.context() as patched:
        patched.setattr("protoclip.search.migration_draft.take_place", full)
        with pytest.raises(ServerError, match="no space"):
            migrate(path, model)
    assert migrate(path, model).resumed == 10
    assert len(model.seen) == 10
    check_vectors(path, pictures())


def test_two_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protoclip.search.writer_lock.WAIT_S", 0.0)

    def second(item: Any) -> None:
        if item == picture(6):
            with pytest.raises(IndexBusyError, match="another Index of this process migrates it"):
                migrate(path, CountingModel(NEW))
            with Index.open(path) as index, pytest.raises(IndexBusyError, match="migrates it"):
                index.cancel_migration()

    migrate(path, CountingModel(NEW, second))
    check_vectors(path, pictures())


def test_given_up(path: Path) -> None:
    with pytest.raises(ServerError):
        migrate(path, CountingModel(NEW, failing_at(picture(7))))
    with Index.open(path) as index:
        assert index.cancel_migration()
        assert not index.cancel_migration()
        assert index.migrating is None
    assert names(path) == CLEAN


def test_another_model_than_the_one_that_was_begun_with(path: Path) -> None:
    with pytest.raises(ServerError):
        migrate(path, CountingModel(NEW, failing_at(picture(7))))
    assert migrate(path, CountingModel("abcdef00")).resumed == 0
    check_vectors(path, pictures(), "abcdef00")


def test_another_open_index_says_to_open_it_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "SEGMENT_ROWS", 3)
    with Index.open(path) as other:
        migrate(path, CountingModel(NEW))
        for call in (lambda: other.add([vector(OLD, "x")], ["x"]), other.compact, lambda: other.get("0.png")):
            with pytest.raises(IndexFileError, match="with another model meanwhile: open it again"):
                call()
    check_vectors(path, pictures())


def test_what_a_build_left_out_stays_listed(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 3)
    (tmp_path / "photos" / "1.png").write_bytes(b"broken")
    with CountingModel(OLD).client() as client, warnings.catch_warnings():
        warnings.simplefilter("ignore", SkippedWarning)
        Index.build(tmp_path / "x.index", client, tmp_path / "photos").close()
    migrate(tmp_path / "x.index", CountingModel(NEW))
    with Index.open(tmp_path / "x.index") as index:
        assert [one.name for one in index.skipped] == ["1.png"]


def test_an_address_with_a_secret_is_not_remembered() -> None:
    from protoclip.search.source_record import record_of_reading
    from protoclip.sources import ReadOptions

    for address in ("s3://key:secret@host/shop", "gs://shop/a.tar?X-Goog-Signature=abc"):
        assert record_of_reading(ReadOptions((address,))) is None
    found = record_of_reading(ReadOptions(("s3://shop/photos", "a/*.tar")))
    assert found is not None
    assert found["options"]["paths"] == ["s3://shop/photos", str(Path.cwd() / "a" / "*.tar")]


def test_an_index_of_the_first_format_is_converted(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    from old_index import write_old_index

    write_old_index(tmp_path / "x.index", np.eye(4, dtype=np.float32)[:2], ["a", "b"], [{"n": 1}, {}])
    migrate(tmp_path / "x.index", CountingModel(NEW), {"b": b"2", "a": b"1"})
    check_vectors(tmp_path / "x.index", {"a": b"1", "b": b"2"})
    assert labels(tmp_path / "x.index") == [("a", {"n": 1}), ("b", {})]
    assert names(tmp_path / "x.index") == CLEAN


def test_the_first_of_several_pictures_of_an_id(tmp_path: Path) -> None:
    """As in a build, also where it is bad and another one isn't."""
    write_pictures(tmp_path / "photos", 3)
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(3)]
    with CountingModel(OLD).client() as client:
        Index.build(tmp_path / "x.index", client, paths).close()
    model = CountingModel(NEW)
    assert migrate(tmp_path / "x.index", model, [*paths, *paths]).embedded == 3
    assert len(model.seen) == 3
    # What is given and is bad is not looked for where the index was built from.
    with pytest.raises(NotEmbedded, match="1 of 3 entries"):
        migrate(tmp_path / "x.index", CountingModel(OLD), {str(paths[1]): b"broken"})


def test_where_its_pictures_are_moves_with_those_that_were_given(path: Path, tmp_path: Path) -> None:
    place = {name: str(tmp_path / name) for name in ("photos", "moved")}
    (tmp_path / "photos").rename(tmp_path / "moved")
    with Index.open(path) as index:
        index.upsert(np.ones((1, index.dim)), ["3.png"])
    migrate(path, CountingModel(NEW), pictures())
    with Index.open(path) as index:
        assert [one.options.paths for one in index.pictures] == [(place["photos"],)]
        assert not index.has_known_picture("3.png")
    migrate(path, CountingModel(OLD), place["moved"])
    with Index.open(path) as index:
        assert [one.options.paths for one in index.pictures] == [(place["moved"],), (place["photos"],)]
        assert index.has_known_picture("3.png")


def test_an_index_that_was_created_and_added_to(tmp_path: Path) -> None:
    """It is embedded again from the pictures that it was created with, and else says what it needs."""
    write_pictures(tmp_path / "photos", 3)
    found = {path.name: path.read_bytes() for path in (tmp_path / "photos").iterdir()}
    for name, places in (("with", ReadOptions((str(tmp_path / "photos"),), texts=False)), ("without", None)):
        with Index.create(tmp_path / name, OLD, 4, pictures=places) as index:
            index.add([vector(OLD, content) for content in found.values()], list(found))
    migrate(tmp_path / "with", CountingModel(NEW))
    check_vectors(tmp_path / "with", found)
    with Index.open(tmp_path / "with") as index:
        index.add([vector(NEW, b"later")], ["later.png"])
        assert index.has_known_picture("2.png")
    with pytest.raises(NotEmbedded, match="1 of 4 entries") as error:
        migrate(tmp_path / "with", CountingModel(OLD))
    assert [one.name for one in error.value.entries] == ["later.png"]
    with pytest.raises(
        ConfigError, match=r"came by add.*give the pictures by their ids with images= \(--images\)"
    ):
        migrate(tmp_path / "without", CountingModel(NEW))
    migrate(tmp_path / "without", CountingModel(NEW), tmp_path / "photos")
    check_vectors(tmp_path / "without", found)

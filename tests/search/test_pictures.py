"""Where an index's pictures are: told by a build, read by id, and refused where rows can't be told any more."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from protoclip.client import Client, InMemoryTransport, MemoryModel
from protoclip.contract.errors import ConfigError, DataError
from protoclip.contract.pixels import PixelSpec, load_pixels
from protoclip.search import Index, IndexPictures, SkippedWarning
from protoclip.search.database import Database
from protoclip.sources import ReadOptions

FINGERPRINT = "0123456789abcdef"


@pytest.fixture
def client() -> Iterator[Client]:
    """Its vectors are mean colours."""

    def embed_image(data: bytes) -> np.ndarray:
        return load_pixels(data, PixelSpec(4, 4)).mean(axis=(0, 1)) + 1.0

    model = MemoryModel(embed_image, lambda text: np.ones(3), 3, name="colours", fingerprint=FINGERPRINT)
    with Client(transport=InMemoryTransport(model), batch_size=2) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "warm").mkdir(parents=True)
    for name, colour in (("warm/rot 🟥.png", "red"), ("green.png", "green"), ("blue.png", "blue")):
        Image.new("RGB", (8, 8), colour).save(folder / name)
    return folder


def _pictures(index: Index) -> IndexPictures:
    return IndexPictures(index.pictures)


def _table(path: Path, folder: Path, *, order: tuple[int, ...] = (0, 1, 2)) -> None:
    """A table whose pictures have no names: their ids are the numbers of their rows."""
    data = [(folder / name).read_bytes() for name in ("warm/rot 🟥.png", "green.png", "blue.png")]
    rows = [{"bytes": data[row], "path": None} for row in order]
    parquet.write_table(pa.table({"image": rows, "caption": ["a", "b", "c"]}), path)


def test_of_a_folder(client: Client, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Index.build("x.index", client, "photos").close()
    monkeypatch.chdir(folder)
    pictures = _pictures(Index.open(tmp_path / "x.index"))
    assert len(pictures) == 3
    assert pictures.read("warm/rot 🟥.png") == (folder / "warm/rot 🟥.png").read_bytes()


def test_of_several_folders(client: Client, folder: Path, tmp_path: Path) -> None:
    (folder / "cold").mkdir()
    Image.new("RGB", (8, 8), "navy").save(folder / "cold/rot 🟥.png")
    paths = (str(folder / "warm"), str(folder / "cold"))
    options = ReadOptions(paths, texts=False, decoded_here=False)
    index = Index.build(tmp_path / "x.index", client, options)
    pictures = _pictures(index)
    assert len(index) == len(pictures) == 2
    for entry in index.iterate():
        expected = client.embed_images(pictures.read(entry.id))
        np.testing.assert_allclose(entry.vector, expected / np.linalg.norm(expected), atol=1e-6)


def test_of_a_table_without_names(client: Client, folder: Path, tmp_path: Path) -> None:
    _table(tmp_path / "t.parquet", folder)
    index = Index.build(tmp_path / "x.index", client, tmp_path / "t.parquet")
    assert _pictures(index).read("1") == (folder / "green.png").read_bytes()


def test_a_table_that_has_changed_shows_no_other_pictures(client: Client, folder: Path, tmp_path: Path) -> None:
    _table(tmp_path / "t.parquet", folder)
    index = Index.build(tmp_path / "x.index", client, tmp_path / "t.parquet")
    _table(tmp_path / "t.parquet", folder, order=(2, 1, 0))
    os.utime(tmp_path / "t.parquet", ns=(1, 1))
    with pytest.raises(DataError, match=r"t\.parquet: has changed since the index was built"):
        _pictures(index)


def test_an_id_is_never_a_path(client: Client, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    pictures = _pictures(Index.build(tmp_path / "x.index", client, folder))
    for name in ("../secret.png", str(tmp_path / "secret.png"), "warm/../../secret.png", "", "\0"):
        assert name not in pictures
        with pytest.raises(DataError, match="no picture has this id"):
            pictures.read(name)


def test_a_picture_that_is_gone(client: Client, folder: Path, tmp_path: Path) -> None:
    pictures = _pictures(Index.build(tmp_path / "x.index", client, folder))
    (folder / "blue.png").unlink()
    with pytest.raises(DataError, match=r"blue\.png: can't be read"):
        pictures.read("blue.png")


def test_a_folder_that_is_gone(client: Client, folder: Path, tmp_path: Path) -> None:
    index = Index.build(tmp_path / "x.index", client, folder)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="photos"):
        _pictures(index)


def test_what_tells_no_place(client: Client, folder: Path, tmp_path: Path) -> None:
    paths = [folder / "green.png", folder / "blue.png"]
    assert Index.build(tmp_path / "of a list", client, paths).pictures == ()
    assert Index.build(tmp_path / "of texts", client, texts=["a"]).pictures == ()
    assert Index.create(tmp_path / "created", FINGERPRINT, 3).pictures == ()


def test_a_created_index_tells_its_place(client: Client, folder: Path, tmp_path: Path) -> None:
    options = ReadOptions((str(folder),), texts=False)
    index = Index.create(tmp_path / "x.index", FINGERPRINT, 3, pictures=options)
    assert _pictures(index).read("green.png") == (folder / "green.png").read_bytes()
    with pytest.raises(DataError, match="nowhere"):
        Index.create(tmp_path / "y.index", FINGERPRINT, 3, pictures=ReadOptions((str(tmp_path / "nowhere"),)))


def test_an_open_index_tells_the_place_of_its_last_build(client: Client, folder: Path, tmp_path: Path) -> None:
    index = Index.build(tmp_path / "x.index", client, folder)
    folder.rename(tmp_path / "elsewhere")
    Index.build(tmp_path / "x.index", client, tmp_path / "elsewhere").close()
    assert _pictures(index).read("blue.png") == (tmp_path / "elsewhere/blue.png").read_bytes()


@pytest.mark.parametrize(
    "record",
    [
        *(None, "", "{", "[]", "[1]", '[{"kind": "later"}]', '[{"kind": "read", "tables": null}]'),
        '[{"kind": "read", "options": {"later": 1}, "tables": null}]',
        '[{"kind": "read", "options": {"paths": "a"}, "tables": null}]',
    ],
)
def test_an_index_of_another_version_tells_none(
    client: Client, folder: Path, tmp_path: Path, record: str | None
) -> None:
    Index.build(tmp_path / "x.index", client, folder).close()
    database = Database(tmp_path / "x.index" / "index.sqlite")
    with database.writing() as connection:
        if record is None:
            connection.execute("DELETE FROM meta WHERE name = 'sources'")
        else:
            connection.execute("UPDATE meta SET value = ? WHERE name = 'sources'", (record,))
    database.close()
    index = Index.open(tmp_path / "x.index")
    assert (index.pictures, len(index)) == ((), 3)
    # And a build over it tells its own.
    Index.build(tmp_path / "x.index", client, folder).close()
    assert len(_pictures(index)) == 3


def test_a_name_that_is_no_utf8(client: Client, folder: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"odd\xff")
    folder.rename(odd)
    index = Index.build(tmp_path / "x.index", client, odd)
    assert _pictures(index).read("blue.png") == (odd / "blue.png").read_bytes()


def test_the_record_holds_what_was_read(client: Client, folder: Path, tmp_path: Path) -> None:
    options = ReadOptions((str(folder),), texts=False, cache_dir=tmp_path / "cache", max_left_out=3)
    index = Index.build(tmp_path / "x.index", client, options)
    (place,) = index.pictures
    # What is gone is named one by one.
    assert place.options == ReadOptions((str(folder),), texts=False, max_left_out=math.inf)
    with Database(tmp_path / "x.index" / "index.sqlite").reading() as connection:
        (record,) = connection.execute("SELECT value FROM meta WHERE name = 'sources'").fetchone()
    assert "cache_dir" not in json.loads(record)[0]["options"]


def test_an_earlier_version_kept_it_apart(client: Client, folder: Path, tmp_path: Path) -> None:
    Index.build(tmp_path / "x.index", client, folder).close()
    database = Database(tmp_path / "x.index" / "index.sqlite")
    with database.writing() as connection:
        (written,) = connection.execute("SELECT value FROM meta WHERE name = 'sources'").fetchone()
        record = json.loads(written)[0]
        before = json.dumps({"options": {**record["options"], "max_left_out": 3}, "tables": None})
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('pictures', ?), ('sources', NULL)", (before,))
    database.close()
    with Index.open(tmp_path / "x.index") as index:
        assert _pictures(index).read("blue.png") == (folder / "blue.png").read_bytes()
        assert index.has_known_picture("blue.png")


def test_of_several_places_the_first_that_has_it(client: Client, folder: Path, tmp_path: Path) -> None:
    """As a migration that is given pictures puts them before those that the index knows of."""
    index = Index.build(tmp_path / "x.index", client, folder)
    (tmp_path / "newer").mkdir()
    Image.new("RGB", (8, 8), "navy").save(tmp_path / "newer" / "blue.png")
    own = index.pictures
    newer = replace(own[0], options=replace(own[0].options, paths=(str(tmp_path / "newer"),)))
    pictures = IndexPictures((newer, *own))
    assert len(pictures) == 3
    assert pictures.read("blue.png") == (tmp_path / "newer" / "blue.png").read_bytes()
    assert pictures.read("green.png") == (folder / "green.png").read_bytes()
    gone = replace(own[0], options=replace(own[0].options, paths=(str(tmp_path / "gone"),)))
    assert "green.png" not in IndexPictures((newer, gone, *own))
    for places in ((gone, newer), ()):
        with pytest.raises(DataError):
            IndexPictures(places)


def test_samples_and_changes(tmp_path: Path) -> None:
    with Index.create(tmp_path / "x.index", FINGERPRINT, 2) as index:
        assert index.sample(3) == []
        before = index.change
        index.add(np.ones((10, 2)), [str(row) for row in range(10)], [{"row": row} for row in range(10)])
        index.remove("3")
        assert index.change != before
        assert [entry.id for entry in index.sample(3)] == ["0", "5", "9"]
        assert [entry.metadata["row"] for entry in index.sample(100)] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        with pytest.raises(ConfigError, match="most=0 must be at least 1"):
            index.sample(0)


def test_what_a_build_left_out_has_its_picture_all_the_same(client: Client, folder: Path, tmp_path: Path) -> None:
    (folder / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.warns(SkippedWarning):
        index = Index.build(tmp_path / "x.index", client, folder)
    assert index.get("damaged.png") is None
    assert "damaged.png" in _pictures(index)


def test_only_entries_of_the_build_have_its_pictures(client: Client, folder: Path, tmp_path: Path) -> None:
    with Index.build(tmp_path / "x.index", client, folder) as index:
        assert index.has_known_picture("blue.png")
        index.upsert(np.ones((1, 3)), ["blue.png"])
        index.remove("green.png")
        index.add(np.ones((1, 3)), ["green.png"])
        assert [
            index.has_known_picture(name) for name in ("blue.png", "green.png", "warm/rot 🟥.png", "none")
        ] == [
            False,
            False,
            True,
            False,
        ]
        # And a build over it makes them its own.
        Index.build(tmp_path / "x.index", client, folder).close()
        assert index.has_known_picture("blue.png")


def test_entries_of_a_created_index_have_the_pictures_that_it_names(folder: Path, tmp_path: Path) -> None:
    for name, pictures in (("with", ReadOptions((str(folder),), texts=False)), ("without", None)):
        with Index.create(tmp_path / name, FINGERPRINT, 3, pictures=pictures) as index:
            index.add(np.ones((1, 3)), ["blue.png"])
            assert index.has_known_picture("blue.png") == (pictures is not None)


def test_two_indexes_at_one_place_have_other_changes(tmp_path: Path) -> None:
    changes = []
    for _ in range(2):
        with Index.create(tmp_path / "x.index", FINGERPRINT, 2, replace=True) as index:
            changes.append(index.change)
        shutil.rmtree(tmp_path / "x.index")
    assert len(set(changes)) == 2

"""Data in an object store: a real S3 server on the loopback, asked through fsspec as a user would."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
import s3fs
from data_folders import PICTURE, put, read, texts, write_tar
from object_store import ObjectStore, object_store
from pyarrow import parquet

from protoclip.contract.errors import ConfigError, DataError
from protoclip.sources import Pairs, ReadOptions, read_pairs
from protoclip.sources.layouts import find_parts
from protoclip.sources.stores import open_stored


def from_store(address: str, **options: object) -> Pairs:
    return read_pairs(ReadOptions((address,), **options))  # type: ignore[arg-type]


def layouts(folder: Path) -> dict[str, Path]:
    """The same three pairs in every layout, with a caption that is not UTF-8 or a name without a picture."""
    pictures = {f"{number}.png": PICTURE + bytes([number]) for number in range(3)}
    captions = {f"{number}.txt": f"text {number}".encode() for number in range(3)}
    put(
        folder / "table",
        {"pairs.csv": "image,text\n" + "".join(f"img/{n}.png,text {n}\n" for n in range(3)) + ",x\n"},
    )
    put(folder / "table" / "img", pictures)
    put(folder / "classes", {f"red_{name[0]}/{name}": content for name, content in pictures.items()})
    put(folder / "classes", {"red_0/notes.md": b"x", "red_0/.hidden": b"x", "Thumbs.db": b"x"})
    put(folder / "sidecars", pictures | captions | {"3.png": PICTURE, "3.txt": b"caf\xe9"})
    rows = [{"image": {"bytes": pictures[f"{n}.png"], "path": None}, "text": f"text {n}"} for n in range(3)]
    (folder / "hub" / "data").mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(rows), folder / "hub" / "data" / "train-00000-of-00001.parquet")
    members = {
        name: content for pair in zip(pictures.items(), captions.items(), strict=True) for name, content in pair
    }
    (folder / "shards").mkdir()
    write_tar(folder / "shards" / "0.tar", members | {"3.txt": b"alone"})
    lines = [json.dumps({"image": f"../table/img/{n}.png", "text": f"text {n}"}) for n in range(3)]
    put(folder / "beside", {"pairs.jsonl": "\n".join(lines)})
    return {path.name: path for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("layout", ["table", "classes", "sidecars", "hub", "shards", "beside"])
@pytest.mark.parametrize("scheme", ["s3", "memory", "simplecache::memory"])
def test_a_store_gives_what_the_disk_gives(tmp_path: Path, store: ObjectStore, layout: str, scheme: str) -> None:
    folders = layouts(tmp_path / "data")
    here = read(folders[layout])
    if scheme == "s3":
        store.put_folder(tmp_path / "data", "data")
        address = f"s3://pairs/data/{layout}"
    else:
        memory = fsspec.filesystem("memory")
        for path in (tmp_path / "data").rglob("*.*"):
            memory.pipe(f"/pairs/{path.relative_to(tmp_path / 'data')}", path.read_bytes())
        address = f"{scheme}://pairs/{layout}"
    there = from_store(address, cache_dir=tmp_path / "cache")
    assert there.texts == here.texts
    assert {name: there.column(name).tolist() for name in there.columns} == {
        name: here.column(name).tolist() for name in here.columns
    }
    assert [there.read_image(row) for row in range(3)] == [here.read_image(row) for row in range(3)]
    assert [skipped.reason for skipped in there.left_out] == [skipped.reason for skipped in here.left_out]
    expected = [skipped.name.replace(str(folders[layout]), address) for skipped in here.left_out]
    assert [skipped.name for skipped in there.left_out] == expected


def test_patterns_in_a_store(tmp_path: Path, store: ObjectStore) -> None:
    store.put_folder(layouts(tmp_path)["shards"], "patterns")
    for pattern in ("s3://pairs/patterns/*.tar", "s3://pairs/patterns/{0..0}.tar", "s3://pairs/patterns/"):
        assert texts(from_store(pattern)) == ["text 0", "text 1", "text 2"]


def test_a_picture_in_a_shard_is_fetched_by_its_range(tmp_path: Path, store: ObjectStore) -> None:
    padding = bytes(3 * 2**20)
    write_tar(tmp_path / "0.tar", {"0.png": PICTURE, "0.txt": b"x", "1.png": padding, "1.txt": b"y"})
    pairs = from_store(store.put("range/0.tar", (tmp_path / "0.tar").read_bytes()))
    before = len(store.requests())
    assert pairs.read_image(0) == PICTURE
    assert store.requests()[before:] == ['GET /pairs/range/0.tar HTTP/1.1" 206 -']


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("s3://pairs/nowhere", DataError, r"s3://pairs/nowhere: no such file, folder or bucket"),
        ("s3://no-such-bucket/pairs.csv", DataError, r"no-such-bucket/pairs\.csv: no such file, folder or bucket"),
        ("s3://no-such-bucket/*.tar", DataError, r"no-such-bucket/\*\.tar: no file fits this pattern"),
        ("gs://bucket/pairs.csv", ConfigError, r"gs://bucket/pairs\.csv: .*gcsfs"),
        ("nowhere://bucket/pairs.csv", ConfigError, r"nowhere://.*Protocol not known.*use one like s3://"),
        ("https://example.org/pairs.csv", ConfigError, r"https://example\.org/pairs\.csv: URLs are not fetched"),
        ("simplecache::https://example.org/pairs.csv", ConfigError, r"URLs are not fetched"),
    ],
)
def test_what_can_not_be_found_is_one_line(
    store: ObjectStore, address: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        from_store(address)
    assert "\n" not in str(caught.value)


def test_without_credentials(store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    address = store.put("secret/pairs.csv", b"image,text\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(
        DataError, match=rf"^{address}: can't be read: Unable to locate credentials: give those of"
    ):
        from_store(address)
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_key_that_disappears_after_it_was_listed(store: ObjectStore, tmp_path: Path) -> None:
    names = {
        "0.png": PICTURE,
        "0.txt": b"zero",
        "1.png": PICTURE,
        "1.txt": b"one",
        "2.png": PICTURE,
        "2.txt": b"two",
    }
    put(tmp_path, names)
    address = store.put_folder(tmp_path, "vanishing")
    (part,) = find_parts(ReadOptions((address,)))
    store.delete("vanishing/1.txt")
    store.delete("vanishing/2.png")
    rows = [row for chunk in part.chunks(["image", "text"]) for row in chunk.batch.to_pylist()]
    assert [row["image"] for row in rows] == ["0.png", "2.png"]
    assert [(skipped.name, skipped.reason) for skipped in part.left_out] == [
        (f"{address}/1.png", "its .txt can't be read")
    ]
    assert texts(from_store(address, max_left_out=5)) == ["zero"]


def test_a_picture_that_is_gone_is_named(store: ObjectStore) -> None:
    store.put("gone/img/0.png", PICTURE)
    store.put("gone/img/1.png", PICTURE)
    pairs = from_store(store.put("gone/pairs.csv", b"image,text\nimg/0.png,zero\nimg\\1.png,one\nimg/2.png,two\n"))
    assert [pairs.read_image(row) for row in (0, 1)] == [PICTURE] * 2
    with pytest.raises(DataError, match=r"^s3://pairs/gone/img/2\.png: can't be read: no such file$"):
        pairs.read_image(2)


def test_an_object_that_was_written_anew_is_read_anew(store: ObjectStore) -> None:
    address = store.put("changing/pairs.csv", b"image,text\n0.png,before\n")
    assert texts(from_store(address)) == ["before"]
    store.put("changing/pairs.csv", b"image,text\n0.png,behind\n")
    assert texts(from_store(address)) == ["behind"]
    store.put("changing/more.csv", b"image,text\n1.png,more\n")
    assert texts(from_store("s3://pairs/changing")) == ["more", "behind"]
    # From here on s3fs has the folder's listing in memory.
    store.put("changing/most.csv", b"image,text\n2.png,most\n")
    store.put("changing/pairs.csv", b"image,text\n0.png,beyond\n")
    assert texts(from_store("s3://pairs/changing")) == ["more", "most", "beyond"]
    store.put("changing/pairs.csv", b"image,text\n0.png,before\n")
    assert texts(from_store(address)) == ["before"]


def test_a_store_that_stops_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_store(tmp_path / "log") as stopping:
        for name, value in stopping.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        monkeypatch.setattr("protoclip.sources.stores._BLOCK_BYTES", 2**10)
        monkeypatch.setattr("protoclip.sources.stores._BUFFER_BYTES", 2**10)
        address = stopping.put("big.csv", b"image,text\n" + b"0.png,x\n" * 100_000)
        pairs = from_store(stopping.put("small.csv", b"image,text\n0.png,x\n"))
        with open_stored(address) as stream:
            assert stream.read(10) == b"image,text"
            stopping.process.kill()
            stopping.process.wait()
            with pytest.raises(DataError, match=rf"^{address}: can't be read: Could not connect"):
                stream.read()
        with pytest.raises(DataError, match=r"^s3://pairs/0\.png: can't be read: Could not connect"):
            pairs.read_image(0)
        with pytest.raises(DataError, match=rf"^{address}: can't be read: Could not connect"):
            from_store(address)
    s3fs.S3FileSystem.clear_instance_cache()

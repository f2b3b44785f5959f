"""WebDataset shards: every member is read, or left out by name, and a picture is read by its place."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from data_folders import PICTURE, read, texts, write_tar

from protoclip.config.schema import DataConfig
from protoclip.contract.errors import DataError
from protoclip.data.table import load_pairs
from protoclip.sources import archives, row_index
from protoclip.sources.tar_index import index_tar

BLOCK = 512


def sample(key: str, text: str = "x") -> dict[str, bytes]:
    return {f"{key}.png": PICTURE + os.fsencode(key), f"{key}.txt": text.encode()}


def reasons(pairs: object, shard: Path) -> dict[str, str]:
    return {skipped.name.removeprefix(f"{shard}: "): skipped.reason for skipped in pairs.left_out}  # type: ignore[attr-defined]


def test_samples_with_captions_of_every_kind(tmp_path: Path) -> None:
    members = {
        "./0.jpg": b"first",
        "./0.txt": b"\xef\xbb\xbfa red disc\n",
        "./0.json": b'{"caption": "of the json", "price": 3}',
        "a/1.png": b"second",
        "a/1.json": b'{"text": ["one", "two"]}',
        "2": PICTURE,
        "2.txt": b"without suffix",
        "3.seg.png": b"a mask",
        "3.jpg": b"third",
        "3.txt": b"three",
        "3.cls": b"7",
    }
    pairs = read(write_tar(tmp_path / "0.tar", members))
    assert pairs.texts == (("a red disc",), ("one", "two"), ("without suffix",), ("three",))
    assert [pairs.read_image(row) for row in range(4)] == [b"first", b"second", PICTURE, b"third"]
    assert pairs.column("json_caption").tolist() == ["of the json", "", "", ""]
    assert pairs.column("cls").tolist() == ["", "", "", "7"]
    assert str(pairs.images[1]) == f"{tmp_path}/0.tar: a/1.png"
    assert pairs.left_out == ()


def test_one_shard_need_not_have_the_columns_of_the_next(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"0.jpg": b"p", "0.txt": b"zero"})
    write_tar(tmp_path / "1.tar", {"1.jpg": b"q", "1.json": b'{"text": ["one", "eins"], "price": 1}'})
    write_tar(tmp_path / "2.tar", {"2.jpg": b"r"})
    write_tar(tmp_path / "3.tar", {})
    (tmp_path / "4.tar").write_bytes(b"")
    pairs = read(tmp_path)
    assert pairs.texts == (("zero",), ("one", "eins"))
    assert pairs.column("price").tolist() == ["", "1"]
    assert [pairs.read_image(row) for row in (0, 1)] == [b"p", b"q"]
    found = {skipped.name: skipped.reason for skipped in pairs.left_out}
    assert found == {f"{tmp_path}/2.tar: 2.jpg": "no text", f"{tmp_path}/4.tar": "an empty file"}
    with pytest.raises(DataError, match=r"3\.tar: holds no row"):
        read(tmp_path / "3.tar")


def test_what_is_no_sample_is_left_out_by_name(tmp_path: Path) -> None:
    members = sample("0") | {
        "__MACOSX/._0.png": b"x",
        "Thumbs.db": b"x",
        ".DS_Store": b"x",
        "1.txt": b"alone",
        "inner.tar": b"x",
        **{"2.png": b"p", "2.jpg": b"q", "2.txt": b"two"},
        **{"3.png": b"p", "3.txt": b"caf\xe9"},
        **{"4.png": b"p", "4.json": b"[]"},
        **{"5.png": b"p"},
        **sample(os.fsdecode(b"gr\xfcn"), "green"),
    }
    shard = write_tar(tmp_path / "0.tar", members, links={"6.png": "0.png"})
    pairs = read(shard, max_left_out=9)
    assert texts(pairs) == ["x", "two", "green"]
    assert pairs.read_image(2).startswith(PICTURE)
    assert reasons(pairs, shard) == {
        "1": "a sample without a picture",
        "inner": "a sample without a picture",
        "2.jpg": "a second picture of its sample",
        "3.png": "its .txt is not UTF-8: byte 0xE9",
        "4.png": "its .json holds no object but list",
        "5.png": "no text",
        "6.png": "a link, a device or a sparse file in a tar",
    }
    with pytest.raises(DataError, match=r"7 of 10 rows and files would be left out"):
        read(shard, max_left_out=0.5)


def whole_tar(folder: Path, count: int) -> Path:
    members = {name: content for number in range(count) for name, content in sample(str(number)).items()}
    return write_tar(folder / "0.tar", members)


@pytest.mark.parametrize(
    ("kept_bytes", "num_read", "names"),
    [
        pytest.param(8 * BLOCK + 100, 2, ["byte 4096"], id="inside the texts of the third"),
        pytest.param(9 * BLOCK, 2, ["byte 4608", "2.png"], id="inside the picture of the third"),
        pytest.param(8 * BLOCK, 2, ["byte 4096"], id="between two samples"),
    ],
)
def test_a_tar_that_was_cut_short(tmp_path: Path, kept_bytes: int, num_read: int, names: list[str]) -> None:
    shard = whole_tar(tmp_path, 4)
    shard.write_bytes(shard.read_bytes()[:kept_bytes])
    pairs = read(shard)
    assert len(pairs) == num_read
    found = reasons(pairs, shard)
    assert list(found) == names
    assert all("the tar ends" in reason for reason in found.values())


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    shard = whole_tar(tmp_path, 4)
    damaged = bytearray(shard.read_bytes())
    damaged[8 * BLOCK : 8 * BLOCK + 20] = b"\xff" * 20
    shard.write_bytes(damaged)
    pairs = read(shard)
    assert len(pairs) == 2
    assert reasons(pairs, shard) == {"byte 4096": "a damaged header in a tar: nothing after it is read"}


@pytest.mark.parametrize("name", ["0.tar", "0.tar.gz", "0.tgz"])
def test_a_compressed_tar_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(whole_tar(tmp_path, 2).read_bytes()))
    with pytest.raises(DataError, match=rf"{name}: .*unpack it"):
        read(path)


def test_no_tar_at_all(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(DataError, match=r"0\.tar: can't be read as a tar file"):
        read(tmp_path / "0.tar")


def test_a_tar_that_shrinks_after_it_was_read(tmp_path: Path) -> None:
    shard = whole_tar(tmp_path, 3)
    pairs = read(shard)
    shard.write_bytes(shard.read_bytes()[: 4 * BLOCK])
    assert pairs.read_image(0) == PICTURE + b"0"
    with pytest.raises(DataError, match=r"0\.tar: ends before byte \d+: it was cut short after it was first read"):
        pairs.read_image(2)


def test_a_large_tar_is_indexed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its index is found again in the next process, and made anew when the tar is another one."""
    monkeypatch.setattr(row_index, "_LARGE_BYTES", 0)
    shard = whole_tar(tmp_path, 3)
    settled = shard.stat().st_mtime - 100
    opened: list[object] = []
    monkeypatch.setattr(archives, "index_tar", lambda file: opened.append(file) or index_tar(file))

    def read_anew() -> list[str]:
        # Other options make other pairs of the same index, and what was left out is in it too.
        pairs = load_pairs(config.model_copy(update={"max_left_out": float(len(opened) + 5)}))
        assert [skipped.reason for skipped in pairs.left_out] == ["a sample without a picture"]
        return texts(pairs)

    members = sample("0") | {"1.txt": b"alone"} | sample("2", "two")
    write_tar(shard, members)
    os.utime(shard, (settled, settled))
    config = DataConfig(path=(str(shard),), cache_dir=str(tmp_path / "cache"))
    assert read_anew() == ["x", "two"]
    assert len(opened) == 1
    assert read_anew() == ["x", "two"]
    config = config.model_copy(update={"max_left_out": 0.7})
    assert texts(load_pairs(config)) == ["x", "two"]
    assert len(opened) == 1
    kept = next((tmp_path / "cache").glob("rows-*.arrow"))
    kept.write_bytes(kept.read_bytes()[:-100])
    assert texts(load_pairs(config.model_copy(update={"max_left_out": 0.8}))) == ["x", "two"]
    assert len(opened) == 2
    write_tar(shard, members | sample("3", "three"))
    os.utime(shard, (settled, settled + 1))
    assert read_anew() == ["x", "two", "three"]


def img2dataset(folder: Path, kind: str) -> None:
    """What img2dataset writes for two shards of three rows, of which one could not be downloaded."""
    import pyarrow as pa
    from pyarrow import parquet

    for shard in ("00000", "00001"):
        rows, members = [], {}
        for number in range(3):
            key, found = f"{shard}{number:04d}", number != 1
            row = {"url": f"http://x/{key}", "caption": f"caption {key}", "key": key}
            row |= {"status": "success" if found else "failed_to_download", "width": 24 if found else None}
            if found:
                members |= {f"{key}.jpg": PICTURE, f"{key}.txt": row["caption"].encode()}
                members[f"{key}.json"] = json.dumps(row, indent=4).encode()
            stored = {"jpg": PICTURE if found else None, "txt": row["caption"] if found else None}
            rows.append(row | (stored if kind == "parquet" else {}))
        folder.mkdir(exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(rows), folder / f"{shard}.parquet")
        (folder / f"{shard}_stats.json").write_text('{"count": 3}')
        if kind == "webdataset":
            write_tar(folder / f"{shard}.tar", members)
        elif kind == "files":
            (folder / shard).mkdir()
            for name, content in members.items():
                (folder / shard / name).write_bytes(content)


@pytest.mark.parametrize("kind", ["files", "webdataset", "parquet"])
def test_what_img2dataset_writes(tmp_path: Path, kind: str) -> None:
    img2dataset(tmp_path / "out", kind)
    columns = {"image_column": "jpg", "text_columns": ("caption",)} if kind == "parquet" else {}
    pairs = read(tmp_path / "out", **columns)
    keys = ["000000000", "000000002", "000010000", "000010002"]
    assert texts(pairs) == [f"caption {key}" for key in keys]
    assert pairs.column("key").tolist() == keys
    assert [pairs.read_image(row) for row in range(4)] == [PICTURE] * 4
    assert [skipped.reason for skipped in pairs.left_out] == ["names no picture"] * (2 if kind == "parquet" else 0)


def test_a_tar_in_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.tar")
    with pytest.raises(DataError, match=r"0\.tar: no such file or folder"):
        read(tmp_path / "0.tar")

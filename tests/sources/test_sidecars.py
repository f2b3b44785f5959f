"""Captions beside pictures, and files that are none of the data: each is read, or left out by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from data_folders import PICTURE, put, read, reasons, texts

from protoclip.contract.errors import DataError


def test_captions_beside_the_pictures(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "a.png": PICTURE,
            "a.txt": "a red disc\n",
            "b.PNG": PICTURE,
            "b.json": '{"text": "a blue disc", "price": 3, "new": true}',
            "c.jpg": PICTURE,
            "c.txt": "from the text",
            "c.json": '{"caption": "from the json", "image": "c.jpg"}',
            "d.d.png": PICTURE,
            "d.txt": "cut at the first dot",
            "e": PICTURE,
            "e.txt": "no suffix",
        },
    )
    pairs = read(tmp_path)
    assert texts(pairs) == ["a red disc", "a blue disc", "from the text", "cut at the first dot"]
    assert pairs.column("price").tolist() == ["", "3", "", ""]
    assert pairs.column("new").tolist() == ["", "true", "", ""]
    assert pairs.column("json_caption").tolist() == ["", "", "from the json", ""]
    assert reasons(pairs, tmp_path).keys() == {"e", "e.txt"}
    assert [pairs.read_image(row) for row in range(4)] == [PICTURE] * 4


def test_lists_in_a_sidecar_are_several_captions(tmp_path: Path) -> None:
    one, two = '{"text": ["a disc", "a circle"]}', '{"text": "a bar"}'
    put(tmp_path, {"a.png": PICTURE, "a.json": one, "b.png": PICTURE, "b.json": two})
    assert read(tmp_path).texts == (("a disc", "a circle"), ("a bar",))


@pytest.mark.parametrize(
    ("suffix", "content", "reason"),
    [
        ("txt", b"caf\xe9", "its .txt is not UTF-8: byte 0xE9"),
        ("txt", b"x" * (2**20 + 1), "its .txt is larger than 1048576 bytes"),
        ("txt", b" \n", "no text"),
        ("json", b"[1]", "its .json holds no object but list"),
        ("json", b"{'a': 1}", "its .json is no JSON"),
        ("json", b'{"text": "\\ud800"}', "its .json holds half a character"),
        ("json", b"[" * 100_000, "nested too deep"),
        ("json", b'{"text": null}', "no text"),
        ("json", b'{"other": "x"}', "no text"),
        (None, b"", "no text"),
    ],
)
def test_a_sidecar_that_can_not_be_used_is_left_out_by_name(
    tmp_path: Path, suffix: str | None, content: bytes, reason: str
) -> None:
    put(tmp_path, {"a.png": PICTURE, "a.txt": "a", "b.png": PICTURE})
    if suffix is not None:
        (tmp_path / f"b.{suffix}").write_bytes(content)
    pairs = read(tmp_path)
    assert texts(pairs) == ["a"]
    assert len(pairs.left_out) == 1
    assert reason in pairs.left_out[0].reason
    with pytest.raises(
        DataError, match=rf"1 of 2 rows and files would be left out .*{reason}.*data\.max_left_out is 0%"
    ):
        read(tmp_path, max_left_out=0)


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "red/1.png": PICTURE,
            "red/.DS_Store": b"x",
            "red/Thumbs.db": b"x",
            "__MACOSX/red/._1.png": PICTURE,
            ".hidden/2.png": PICTURE,
            "red/notes.md": "x",
            "green/3.png": PICTURE,
            "0.png": PICTURE,
        },
    )
    (tmp_path / "red" / "link.png").symlink_to(tmp_path / "green" / "3.png")
    (tmp_path / "red" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "green" / "all").symlink_to(tmp_path / "red")
    os.mkfifo(tmp_path / "green" / "pipe.png")
    (tmp_path / os.fsdecode(b"gr\xfcn")).mkdir()
    (tmp_path / os.fsdecode(b"gr\xfcn") / "4.png").write_bytes(PICTURE)
    (tmp_path / "green" / os.fsdecode(b"f\xfcnf.png")).write_bytes(PICTURE)
    pairs = read(tmp_path, max_left_out=7)
    assert texts(pairs) == ["green", "green", "red", "red"]
    assert [pairs.read_image(row) for row in range(4)] == [PICTURE] * 4
    found = {
        name: reason.partition(" in JPEG")[0].partition(",")[0]
        for name, reason in reasons(pairs, tmp_path).items()
    }
    assert found == {
        "0.png": "in no class folder",
        "green/all": "a link to a folder",
        "green/pipe.png": "a pipe",
        "red/gone.png": "a link to a file that is not there",
        "red/notes.md": "not a picture",
        os.fsdecode(b"gr\xfcn/4.png"): "in a class folder whose name is not UTF-8",
    }
    with pytest.raises(DataError, match=r"6 of 10 rows and files would be left out .*data\.max_left_out is 5"):
        read(tmp_path, max_left_out=5)


def test_a_folder_that_can_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {"red/1.png": PICTURE, "locked/2.png": PICTURE})
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=rf"^{tmp_path}/locked: can't be read: Permission denied"):
        read(tmp_path)

"""Which files of a folder are pictures, and what is told of the others; no captions are wanted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import NO_PICTURE, Skipped
from protoclip.sources import ReadOptions, read_pairs
from protoclip.sources.layouts import folder_of_pictures
from protoclip.sources.listing import LINK_TO_FOLDER
from protoclip.sources.unnamed import NOT_NAMED


def draw(path: Path, kind: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = sum(path.name.encode()) % 256
    Image.fromarray(np.full((4, 4, 3), shade, dtype=np.uint8)).save(path, kind)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures by name, by content, and none."""
    for name in ("b.JPG", "a/c.png", ".hidden.png", ".cache/d.png", "notes.txt", "e.avif", "BMW.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"BMW is no bitmap")
    draw(tmp_path / "picture without extension", "WEBP")
    draw(tmp_path / "z.dat", "BMP")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    return tmp_path


def options(path: Path | str, **fields: object) -> ReadOptions:
    return ReadOptions((str(path),), **{"texts": False, "decoded_here": False} | fields)  # type: ignore[arg-type]


def told(left_out: tuple[Skipped, ...]) -> dict[str, str]:
    return {Path(item.name).name: item.reason for item in left_out}


def test_files_are_walked_in_order_and_the_rest_is_told(folder: Path) -> None:
    tree = folder_of_pictures(options(folder))
    assert tree is not None
    assert list(tree.pictures) == ["a/c.png", "b.JPG", "e.avif", "picture without extension", "z.dat"]
    assert told(tree.others) == dict.fromkeys(["BMW.txt", "notes.txt"], NO_PICTURE) | {"loop": LINK_TO_FOLDER}
    pairs = read_pairs(options(folder))
    assert [str(image) for image in pairs.images] == [str(folder / name) for name in tree.pictures]
    assert pairs.left_out == tree.others


@pytest.mark.parametrize("way", ["{}/", "{}//", "{}/a/..", "./{}", "./{}/."])
def test_a_folder_is_the_same_however_it_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.chdir(folder.parent)
    found = read_pairs(options(way.format(folder.name)))
    assert len(found) == 5
    assert all(Path(str(image)).is_file() for image in found.images)
    monkeypatch.chdir(folder)
    assert [str(image) for image in read_pairs(options(".")).images][:2] == ["a/c.png", "b.JPG"]


def test_splits_among_pictures_are_chosen_only_where_they_are_asked_for(tmp_path: Path) -> None:
    for name in ("train/a.png", "val/b.png"):
        draw(tmp_path / name)
    assert len(read_pairs(options(tmp_path))) == 2
    chosen = read_pairs(options(tmp_path, split="val"))
    assert [Path(str(image)).name for image in chosen.images] == ["b.png"]


@pytest.mark.parametrize("texts", [True, False])
@pytest.mark.parametrize("table", ["captions.csv", "pairs.csv"])
def test_pictures_that_no_row_names_are_told(tmp_path: Path, table: str, texts: bool) -> None:
    for name in ("a.png", "deep/b.png", "c.png", "d.JPG", "e é.png", "f.png"):
        draw(tmp_path / name)
    rows = ["a.png,x", "./deep/b.png,y", "deep\\b.png,again", "e e\u0301.png,z", f"{tmp_path}/f.png,u"]
    (tmp_path / table).write_text("image,text\n" + "\n".join(rows) + "\n", encoding="utf-8")
    pairs = read_pairs(options(tmp_path, texts=texts))
    if table == "captions.csv" or texts:
        assert len(pairs) == 4
        assert told(pairs.left_out) == dict.fromkeys(["c.png", "d.JPG"], NOT_NAMED)
    else:
        assert len(pairs) == 6
        assert told(pairs.left_out) == {"pairs.csv": NO_PICTURE}


def test_pictures_of_a_part_that_is_not_read_are_not_missed(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("a.png", "b.png"):
            draw(tmp_path / split / name)
        (tmp_path / split / "metadata.csv").write_text("file_name,text\na.png,x\n")
    pairs = read_pairs(options(tmp_path, texts=True, split="train"))
    assert [item.name for item in pairs.left_out] == [str(tmp_path / "train" / "b.png")]
    assert len(read_pairs(options(tmp_path, texts=True, split="all")).left_out) == 2


def test_a_picture_that_comes_later_is_told_in_the_next_reading(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_text("image,text\na.png,x\n")
    assert read_pairs(options(tmp_path)).left_out == ()
    draw(tmp_path / "b.png")
    assert told(read_pairs(options(tmp_path)).left_out) == {"b.png": NOT_NAMED}


def test_a_table_beside_the_captions_is_told(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    for name in ("captions.csv", "old.csv"):
        (tmp_path / name).write_text("image,text\na.png,x\n")
    assert told(read_pairs(options(tmp_path)).left_out) == {"old.csv": "not read: captions.csv is"}


def test_a_missing_folder_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_pairs(options(folder / "nowhere"))
    with pytest.raises(DataError, match="no such file or folder"):
        read_pairs(options(folder / ("x" * 300)))

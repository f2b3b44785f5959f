"""Building an index from folders, tables and lists, over a client whose encoders are two functions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from protoclip.client import Client, InMemoryTransport, MemoryModel, Unavailable
from protoclip.contract.errors import ConfigError, DataError, IndexFileError
from protoclip.contract.picture_folders import NO_PICTURE, Skipped
from protoclip.contract.pixels import PixelSpec, load_pixels
from protoclip.search import BuildProgress, Index, SkippedWarning

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
FINGERPRINT = "0123456789abcdef"


def _embed_image(data: bytes) -> NDArray[np.float64]:
    """The mean colour."""
    return load_pixels(data, PixelSpec(4, 4)).mean(axis=(0, 1)) + 1.0


def _embed_text(text: str) -> NDArray[np.float64]:
    if text not in COLOURS:
        raise ValueError(f"{text} is no colour")
    return np.array(COLOURS[text]) + 1.0


@pytest.fixture
def client() -> Iterator[Client]:
    """Knows colours in pictures and four of them by name."""
    model = MemoryModel(_embed_image, _embed_text, 3, name="colours", fingerprint=FINGERPRINT)
    with Client(transport=InMemoryTransport(model), batch_size=2) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good pictures in two folders, a damaged one, and a file that is none."""
    folder = tmp_path / "photos"
    (folder / "warm").mkdir(parents=True)
    for name, colour in (("warm/rot 🟥.png", "red"), ("green.webp", "green"), ("blue.png", "blue")):
        Image.new("RGB", (8, 8), COLOURS[colour]).save(folder / name, lossless=True)
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8\xff and no more")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_what_a_server_made_names_no_artifact(client: Client, folder: Path, tmp_path: Path) -> None:
    with pytest.warns(SkippedWarning):
        index = Index.build(tmp_path / "index", client, folder)
    assert index.artifact is None
    made = Index.create(tmp_path / "other", FINGERPRINT, 3, artifact="/somewhere/artifacts/shop")
    assert Index.open(made.path).artifact == "/somewhere/artifacts/shop"


def _nearest(index: Index, client: Client, text: str) -> tuple[str, dict[str, Any]]:
    hit = client.search(index, text=text, k=1)[0]
    return hit.id, dict(hit.metadata)


def test_a_folder_with_a_table(client: Client, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "photos.csv"
    table.write_text(
        '\ufeffimage,title,price\nwarm/rot 🟥.png,"赤, ""rouge""",3\nblue.png,Blau,4\ngone.png,x,5\n',
        encoding="utf-8",
    )
    with pytest.warns(SkippedWarning, match="3 items were left out, among them"):
        built = Index.build(tmp_path / "index", client, folder, table)
    assert set(built.skipped) == {
        Skipped(str(folder / "notes.txt"), NO_PICTURE),
        Skipped("damaged.jpg", built.skipped[1].reason),
        Skipped("gone.png", "metadata without a picture"),
    }
    assert "damaged" in built.skipped[1].reason
    index = Index.open(tmp_path / "index", client)
    assert (len(index), index.model, index.fingerprint, index.dim) == (3, "colours", FINGERPRINT, 3)
    assert _nearest(index, client, "red") == ("warm/rot 🟥.png", {"title": '赤, "rouge"', "price": "3"})
    assert _nearest(index, client, "blue") == ("blue.png", {"title": "Blau", "price": "4"})
    assert _nearest(index, client, "green") == ("green.webp", {})


@pytest.mark.parametrize("extension", [".csv", ".jsonl"])
def test_a_table_of_pictures(client: Client, folder: Path, tmp_path: Path, extension: str) -> None:
    table = folder / f"list{extension}"
    rows = [{"image": "green.webp", "sku": "a"}, {"image": "warm/../blue.png", "sku": "b"}]
    lines = ["sku,image", *(f"{row['sku']},{row['image']}" for row in rows)]
    table.write_text("\n".join(lines if extension == ".csv" else map(json.dumps, rows)) + "\n", encoding="utf-8")
    index = Index.build(tmp_path / "index", client, table, {"green.webp": {"more": [1]}})
    assert index.skipped == ()
    assert _nearest(index, client, "blue") == ("warm/../blue.png", {"sku": "b"})
    assert _nearest(index, client, "green") == ("green.webp", {"sku": "a", "more": [1]})


def test_pictures_in_a_table_that_have_one_name(client: Client, folder: Path, tmp_path: Path) -> None:
    data = [(folder / name).read_bytes() for name in ("green.webp", "blue.png")]
    images = [*({"bytes": own, "path": "image.png"} for own in data), {"bytes": data[0], "path": None}]
    parquet.write_table(pa.table({"image": images, "caption": list("abc")}), tmp_path / "t.parquet")
    index = Index.build(tmp_path / "index", client, tmp_path / "t.parquet")
    found = {hit.id: hit.metadata["caption"] for hit in index.search(np.ones(3), 3)}
    assert found == {"image.png": "a", "image.png#1": "b", "2": "c"}


def test_a_repeated_picture_is_one_entry_a_missing_one_is_left_out_and_nan_is_no_value(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    columns = {
        "image": ["green.webp", "gone.png", "./green.webp", "blue.png"],
        "caption": ["a", "b", "c", "d"],
        "price": [1.0, 2.0, 3.0, float("nan")],
    }
    parquet.write_table(pa.table(columns), folder / "t.parquet")
    with pytest.warns(SkippedWarning, match="1 items were left out, among them gone.png"):
        index = Index.build(tmp_path / "index", client, folder / "t.parquet")
    found = {hit.id: dict(hit.metadata) for hit in index.search(np.ones(3), 2)}
    assert found == {"green.webp": {"caption": ["a", "c"], "price": 1.0}, "blue.png": {"caption": "d"}}


def test_urls_in_a_table_are_left_out_and_addresses_of_files_read(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "elsewhere.jsonl"
    address = (folder / "warm" / "rot 🟥.png").as_uri()
    names = ["https://a.example/b.png", address, "data:image/png;base64," + "A" * 9000, "photos/blue.png"]
    table.write_text("".join(json.dumps({"image": name}) + "\n" for name in names), encoding="utf-8")
    with pytest.warns(SkippedWarning, match="2 items were left out"):
        index = Index.build(tmp_path / "index", client, table)
    assert [_nearest(index, client, name)[0] for name in ("red", "blue")] == [address, "photos/blue.png"]
    assert [item.name for item in index.skipped] == [f"{table}: line 1", f"{table}: line 3"]
    assert index.skipped[0].reason == "URLs are not fetched: download it and name the file"
    assert "data URIs are not decoded" in index.skipped[1].reason


@pytest.mark.parametrize("argument", ["images", "metadata"])
def test_a_url_is_no_source(client: Client, folder: Path, tmp_path: Path, argument: str) -> None:
    for url in ("https://a.example/b.csv", Path("https://a.example/b.csv"), ""):
        with pytest.raises(ConfigError, match=r"^data\.path: (https|the path is empty)[^\n]*: "):
            Index.build(tmp_path / "index", client, **{"images": folder, argument: url})


def test_open_files_have_their_position_as_id(client: Client, folder: Path, tmp_path: Path) -> None:
    with (folder / "green.webp").open("rb") as green, (folder / "blue.png").open("rb") as blue:
        index = Index.build(tmp_path / "index", client, [green, blue])
    assert [_nearest(index, client, name)[0] for name in ("green", "blue")] == ["0", "1"]


def test_a_generator_of_all_kinds(client: Client, folder: Path, tmp_path: Path) -> None:
    def items() -> Iterator[Any]:
        yield folder / "green.webp"
        yield np.zeros((4, 4, 3), np.uint8) + np.array(COLOURS["red"], np.uint8)
        yield (folder / "blue.png").read_bytes()
        yield b"no picture"

    seen: list[BuildProgress] = []
    with pytest.warns(SkippedWarning, match=r"1 items were left out, among them 3 \(this is no picture"):
        index = Index.build(tmp_path / "index", client, items(), progress=seen.append)
    assert seen == [BuildProgress(2, 0, None), BuildProgress(4, 1, None)]
    assert [_nearest(index, client, name)[0] for name in ("green", "red", "blue")] == [
        str(folder / "green.webp"), "1", "2",
    ]  # fmt: skip


def test_texts(client: Client, tmp_path: Path) -> None:
    seen: list[BuildProgress] = []
    with pytest.warns(SkippedWarning, match="mauve is no colour"):
        index = Index.build(
            tmp_path / "index",
            client,
            texts=["green", "mauve", "red"],
            metadata={"2": {"a": 1}},
            progress=seen.append,
        )
    assert _nearest(index, client, "red") == ("2", {"text": "red", "a": 1})
    assert seen[-1] == BuildProgress(3, 1, 3)


def test_building_again_replaces_the_index(client: Client, folder: Path, tmp_path: Path) -> None:
    for colour in ("red", "blue"):
        Index.build(tmp_path / "index", client, texts=[colour])
    assert Index.open(tmp_path / "index").search(np.ones(3), 1)[0].metadata == {"text": "blue"}


class TestNothingIsWritten:
    @pytest.fixture(autouse=True)
    def _unwritten(self, tmp_path: Path) -> Iterator[None]:
        yield
        assert not (tmp_path / "index").exists()

    def test_where_all_items_are_bad(self, client: Client, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nothing to index: 2 items were bad, the first one because of: mauve"):
            Index.build(tmp_path / "index", client, texts=["mauve", "x"])
        with pytest.raises(DataError, match="nothing to index"):
            Index.build(tmp_path / "index", client, [])

    @pytest.mark.parametrize(
        ("arguments", "kind", "message"),
        [
            ({}, ConfigError, "needs either images= or texts="),
            ({"images": ["a"], "texts": ["a"]}, ConfigError, "needs either"),
            ({"images": "missing"}, DataError, "missing: no such file or folder"),
            ({"images": "photos/green.webp"}, DataError, "unknown kind of file: a picture alone: name its folder"),
            ({"images": b"bytes"}, ConfigError, "a single item"),
            ({"texts": "red"}, ConfigError, "a single text"),
            ({"images": "empty"}, DataError, "empty: holds no picture, and none of .csv"),
            ({"images": "photos", "metadata": 3}, ConfigError, "metadata=3: give a table, or a mapping"),
            ({"images": "photos", "metadata": "missing.csv"}, DataError, "missing.csv: no such file"),
        ],
    )
    def test_on_wrong_arguments(
        self,
        client: Client,
        folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        arguments: dict[str, Any],
        kind: type[Exception],
        message: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("empty").mkdir()
        with pytest.raises(kind, match=message):
            Index.build("index", client, **arguments)

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("t.csv", "thing,title\na.png,b\n", "none of thing, title is called like the column"),
            ("t.csv", "image,title\na.png\n", "line 2 has 1 fields"),
            ("t.csv", "image,title\na.png,b,c\n", "line 2 has 3 fields"),
            ("t.csv", "image,path\na.png,b\n", "image and path could all be the column"),
            ("t.csv", "image\n\udcff\n", "line 2, column 'image': byte 0xFF is not UTF-8"),
            ("t.jsonl", '["a"]\n', "line 1: no JSON object"),
            ("t.jsonl", "{\n", "line 1: no JSON"),
        ],
    )
    def test_on_unfit_tables(self, client: Client, tmp_path: Path, name: str, text: str, message: str) -> None:
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises((DataError, ConfigError), match=message):
            Index.build(tmp_path / "index", client, tmp_path / name)

    def test_without_a_server(self, folder: Path, tmp_path: Path) -> None:
        with Client("http://127.0.0.1:9") as client, pytest.raises(Unavailable):
            Index.build(tmp_path / "index", client, folder)


def test_a_folder_that_is_no_index_is_refused_before_any_work(client: Client, folder: Path) -> None:
    with pytest.raises(IndexFileError, match="is no index"):
        Index.build(folder, client, folder)
    assert (folder / "green.webp").exists()

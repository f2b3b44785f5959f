"""`embed` and `classify` on tables, shards and patterns; the artifact runs in this process."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from command_line import Run, runner
from pyarrow import parquet


@pytest.fixture
def run(
    tiny_artifact: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    monkeypatch.setenv("PROTOCLIP_URL", str(tiny_artifact))
    monkeypatch.chdir(photos.parent)
    return runner(monkeypatch, capsys)


def test_everything_gives_the_vectors_of_its_pictures(run: Run, photos: Path) -> None:
    names = ["a.png", "more/d.bmp"]
    files = [photos / name for name in names]
    rows = [f"photos/{name},x" for name in names]
    Path("t.csv").write_text("\n".join(["image,text", *rows, rows[0], ",y", "https://a.example/b.png,z"]) + "\n")
    with tarfile.open("s-000.tar", "w") as tar:
        for number, file in enumerate(files):
            tar.add(file, f"{number}.{file.suffix[1:]}")
    columns = {"image": [file.read_bytes() for file in files], "n": [1, 2]}
    parquet.write_table(pyarrow.table(columns), "t.parquet")
    wanted = [item["vector"] for item in run("embed", *files, "--json").json["items"]]
    for argument, ids in {
        "t.csv": [f"photos/{name}" for name in names],
        "s-000.tar": ["s-000.tar: 0.png", "s-000.tar: 1.bmp"],
        "s-{000..000}.tar": ["s-000.tar: 0.png", "s-000.tar: 1.bmp"],
        "t.parquet": ["t.parquet: row 0", "t.parquet: row 1"],
    }.items():
        outcome = run("embed", argument, "--json")
        assert outcome.code == 0, outcome.err
        assert [item["id"] for item in outcome.json["items"]] == ids
        np.testing.assert_allclose([item["vector"] for item in outcome.json["items"]], wanted, atol=1e-6)
        answers = run("classify", argument, "--labels", "red,green", "--json").json["items"]
        assert [answer["id"] for answer in answers] == ids
    assert run("embed", "t.csv", "--json").json["errors"] == [
        {"id": "t.csv: line 5", "reason": "names no picture"},
        {"id": "t.csv: line 6", "reason": "URLs are not fetched: download it and name the file"},
    ]


def test_a_pattern_of_pictures(run: Run) -> None:
    outcome = run("embed", "photos/*.png", "photos/more/?.bmp", "--json")
    assert [item["id"] for item in outcome.json["items"]] == [
        "photos/a.png",
        "photos/b [red].png",
        "photos/more/d.bmp",
    ]
    assert run("embed", "photos/*.gif").err == "error: photos/*.gif: no file fits this pattern\n"


def test_the_options_of_a_table(run: Run) -> None:
    Path("t.csv").write_bytes("bild;text|more\nphotos/more/é👠.png;caf\n".encode("utf-16"))
    for command in (["embed", "t.csv"], ["classify", "t.csv", "--labels", "a,b"]):
        outcome = run(*command)
        assert (outcome.code, "--encoding" in outcome.err) == (2, True)
        outcome = run(*command, "--encoding", "utf-16")
        assert (outcome.code, "--delimiter" in outcome.err) == (2, True)
        outcome = run(*command, "--encoding", "utf-16", "--delimiter", ";")
        assert (outcome.code, "--image-column bild" in outcome.err) == (2, True)
        outcome = run(*command, "--encoding", "utf-16", "--delimiter", ";", "--image-column", "bild")
        assert (outcome.code, outcome.err) == (0, "")


def test_a_captions_file_chooses_the_pictures_of_its_folder(run: Run, photos: Path) -> None:
    (photos / "captions.csv").write_text("image,text\na.png,x\n")
    for command in (["embed", "photos"], ["classify", "photos", "--labels", "red,green"]):
        answer = run(*command, "--json").json
        assert [item["id"] for item in answer["items"]] == ["photos/a.png"]
        assert {Path(error["id"]).name: error["reason"] for error in answer["errors"]} == dict.fromkeys(
            ["b [red].png", "c.webp", "damaged.png", "d.bmp", "é👠.png"], "no row names it"
        )
        assert len(run(*command, "--layout", "pictures", "--json").json["items"]) == 5


def test_a_picture_named_twice_has_two_answers(run: Run) -> None:
    name = "photos/a.png"
    for command in (["embed"], ["classify", "--labels", "red,green"]):
        items = run(*command, name, "photos/c.webp", name, "--json").json["items"]
        assert [item["id"] for item in items] == [name, "photos/c.webp", name]
        assert items[0] == items[2] != items[1]


def test_named_files_are_taken_at_their_word(run: Run) -> None:
    outcome = run("embed", "photos/notes.txt", "photos/more", "missing.png", "--json")
    assert [item["id"] for item in outcome.json["items"]] == ["photos/more/d.bmp", "photos/more/é👠.png"]
    assert [error["id"] for error in outcome.json["errors"]] == ["photos/notes.txt", "missing.png"]


def test_a_folder_of_pictures_needs_no_arrow(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert len(run("embed", "photos", "--json").json["items"]) == 5


def test_a_damaged_table_is_refused_before_the_work(run: Run) -> None:
    Path("t.csv").write_bytes(b"image,text\nphotos/a.png,caf\xe9\n")
    outcome = run("embed", "photos/a.png", "t.csv", "--json")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: t.csv: line 2, column 'text': byte 0xE9 is not UTF-8: name the file's")


def test_an_empty_folder_is_one_bad_item(run: Run) -> None:
    Path("empty").mkdir()
    outcome = run("embed", "empty", "photos/a.png", "--json").json
    assert [item["id"] for item in outcome["items"]] == ["photos/a.png"]
    assert outcome["errors"][0]["reason"].startswith("holds no picture, and none of .csv")

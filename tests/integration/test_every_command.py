"""The client's commands on awkward files, folders and words: an answer, or one line and exit code 2; no stall."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, runner
from every_picture import BAD, GOOD, write_all
from PIL import Image

from protoclip.search import Index
from serving.triton.launcher import LaunchedServer

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def run(triton: LaunchedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """With the server's address known to the commands."""
    monkeypatch.setenv("PROTOCLIP_URL", triton.grpc_url)
    return runner(monkeypatch, capsys)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A good picture among a pipe that nobody fills, links to themselves and to nothing, and the like."""
    folder = tmp_path / "odd"
    (folder / "folder.png").mkdir(parents=True)
    (folder / "empty").mkdir()
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(folder / "good.png")
    (folder / "empty.png").touch()
    (folder / "page.jpg").write_text("<!DOCTYPE html><title>Not found</title>")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    return folder


BAD_IN_ODD = ["empty.png", "gone.png", "loop.png", "page.jpg", "pipe", "pipe.png"]


def test_a_folder_of_oddities_gives_what_is_good_in_it(run: Run, odd: Path, tmp_path: Path) -> None:
    outcome = run("embed", odd, "--json")
    assert outcome.code == 0
    assert [Path(item["id"]).name for item in outcome.json["items"]] == ["good.png"]
    assert sorted(Path(error["id"]).name for error in outcome.json["errors"]) == BAD_IN_ODD
    assert all("\n" not in error["reason"] and error["reason"] for error in outcome.json["errors"])
    assert run("classify", odd, "--labels", "red,green", "--json").json["items"][0]["label"] in ("red", "green")
    outcome = run("index", "build", odd, tmp_path / "x.index", "--max-left-out", "9", "--json")
    assert (outcome.code, outcome.json["entries"]) == (0, 1)
    assert sorted(Path(item["id"]).name for item in outcome.json["left_out"]) == BAD_IN_ODD


def test_every_picture_of_a_folder_is_in_the_index_or_left_out_by_name(run: Run, tmp_path: Path) -> None:
    good, bad = write_all(tmp_path / "photos")
    outcome = run("index", "build", tmp_path / "photos", tmp_path / "x.index", "--json")
    assert (outcome.code, outcome.json["entries"]) == (0, len(good))
    left_out = {Path(item["id"]).name: item["reason"] for item in outcome.json["left_out"]}
    assert left_out.keys() == bad.keys()
    for name, kind in bad.items():
        assert re.search(BAD[kind][1], left_out[name]), kind
        assert "\n" not in left_out[name]
    assert f"warning: {len(bad)} of {len(good) + len(bad)} left out" in outcome.err
    for name, kind in good.items():
        [hit, *_] = run("search", tmp_path / "x.index", "--image", tmp_path / "photos" / name, "--json").json[
            "hits"
        ]
        assert hit["score"] == pytest.approx(1, abs=1e-5), kind


def test_a_turned_picture_is_found_by_the_upright_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in (3, 6, 8):
        (tmp_path / "photos" / f"turned{number}.png").write_bytes(GOOD[f"EXIF orientation {number}"][0])
    (tmp_path / "upright.png").write_bytes(GOOD["rgb"][0])
    assert run("index", "build", tmp_path / "photos", tmp_path / "x.index").code == 0
    outcome = run("search", tmp_path / "x.index", "--image", tmp_path / "upright.png", "--json")
    assert [hit["score"] for hit in outcome.json["hits"]] == pytest.approx([1, 1, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "odd/empty"], "odd/empty: holds no picture, and none of .csv, .tsv"),
        (["embed", "odd/folder.png"], "odd/folder.png: holds no picture"),
        (["embed", "odd/missing.png"], "odd/missing.png: No such file or directory"),
        (["embed", "odd/good.png/x.png"], "odd/good.png/x.png: Not a directory"),
        (["embed", "odd/loop.png"], "odd/loop.png: Too many levels of symbolic links"),
        (["embed", "odd/pipe.png"], "odd/pipe.png: "),
        (["embed", "/dev/zero"], "/dev/zero: "),
        (["embed", "odd/page.jpg"], "an HTML page, not a picture"),
        (["embed", "odd/" + 300 * "x" + ".png"], "File name too long"),
        (["embed", "odd/good.png", "--out", "odd/good.png/v.npz"], "v.npz: can't be written"),
        (["embed", "odd/good.png", "--out", "odd"], "odd: the folder holds 'empty', and no parts"),
        (
            ["embed", "odd/good.png", "--out", "v.npy"],
            "--out v.npy: give FILE.parquet or FILE.npz, or the",
        ),
        (["classify", "odd/good.png", "--labels", "a,b", "--out", "v.npz"], "--out v.npz: give FILE.parquet, or"),
        (["embed", "odd/good.png", "--out", "/dev/null/v.npz"], "v.npz: can't be written"),
        (["embed", "--text", ""], "the text is blank"),
        (["embed", "--text", "a\udcffb"], "half a surrogate pair at position 1"),
        (["classify", "odd/empty", "--labels", "a,b"], "odd/empty: holds no picture"),
        (["classify", "odd/missing.png", "--labels", "a,b"], "odd/missing.png: No such file"),
        (["classify", "odd/good.png", "--labels", ""], "is no label"),
        (["classify", "odd/good.png", "--labels", "a,b\udcff"], "half a surrogate pair"),
        (["classify", "odd/good.png", "--labels", "a,b", "--templates", "none"], "{}"),
        (["index", "build", "odd/empty", "x.index"], "odd/empty: holds no picture, and none of .csv, .tsv"),
        (["index", "build", "odd/missing", "x.index"], "odd/missing: no such file or folder"),
        (
            ["index", "build", "odd/good.png", "x.index"],
            "odd/good.png: unknown kind of file: a picture alone: name its folder",
        ),
        (["index", "build", "odd", "odd/good.png"], "odd/good.png"),
        (["index", "build", "odd", "odd"], "odd"),
        (
            ["index", "build", "odd", "x.index"],
            "odd: 4 of 7 rows and files would be left out (2 × a link to a file",
        ),
        (["index", "build", "odd", "odd/good.png/x.index", "--max-left-out", "9"], "x.index"),
        (["index", "info", "odd/missing"], "odd/missing"),
        (["search", "odd", "--text", "x"], "odd"),
        (["search", "x.index", "--image", "odd"], "x.index"),
    ],
)
def test_one_line_and_exit_code_2(
    run: Run, odd: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(odd.parent)
    before = sorted(odd.parent.rglob("*"))
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert message in outcome.err
    assert sorted(odd.parent.rglob("*")) == before


@pytest.mark.parametrize("option", [["--image", "odd"], ["--image", "odd/page.jpg"], ["--text", " "]])
def test_a_bad_question_to_an_index(
    run: Run, odd: Path, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    monkeypatch.chdir(odd.parent)
    index = Index.create("x.index", "0123456789abcdef", 16)
    index.add(np.eye(16), [str(row) for row in range(16)])
    index.save()
    outcome = run("search", "x.index", *option)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert len(run("search", "x.index", "--text", "一只红色的鞋子", "--json").json["hits"]) == 10


def test_a_name_that_is_no_utf8(triton: LaunchedServer, tmp_path: Path) -> None:
    """In a process of its own: the terminal's encoding has a say."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (4, 4), "red").save(folder / "a.png")
    (folder / "a.png").rename(folder / "caf\udce9.png")
    program = str(Path(sys.executable).with_name("protoclip"))
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PROTOCLIP_URL": triton.grpc_url}
    for command in (["embed", "photos"], ["index", "build", "photos", "x.index"], ["search", "x.index"]):
        question = ["--text", "x"] if command[0] == "search" else []
        result = subprocess.run(
            [program, *command, *question, "--json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=300,
            check=True,
        )
        found = json.loads(result.stdout)
        assert command[0] == "index" or (found.get("items") or found["hits"])[0]["id"].endswith("caf\udce9.png")

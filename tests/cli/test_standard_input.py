"""`-` in embed, classify and search: a picture, texts and labels through a pipe, in processes of their own."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run, runner
from PIL import Image

from protoclip.client import Client
from protoclip.search import Index

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def _file(kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, kind)
    return stream.getvalue()


def protoclip(*arguments: object, stdin: bytes | int) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, with these bytes or this open file as standard input."""
    given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    command = [sys.executable, "-m", "protoclip", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60, **given)


@pytest.fixture
def here(tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working folder; the commands run the artifact, in their own process."""
    monkeypatch.setenv("PROTOCLIP_URL", str(tiny_artifact))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_picture_through_a_real_pipe(here: Path, tiny_artifact: Path) -> None:
    (here / "a.webp").write_bytes(_file("WEBP"))
    done = protoclip("embed", "a.webp", "-", "--json", stdin=_file())
    assert done.returncode == 0, done.stderr
    items = json.loads(done.stdout)["items"]
    assert [item["id"] for item in items] == ["a.webp", "-"]
    with Client(str(tiny_artifact)) as client:
        np.testing.assert_allclose(items[1]["vector"], client.embed_images(PIXELS), atol=1e-5)


def test_texts_through_a_real_pipe(here: Path, tiny_artifact: Path) -> None:
    done = protoclip("embed", "--text", "-", "--json", stdin="red shoes\n\nblåbær\n".encode())
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [item["id"] for item in answer["items"]] == ["red shoes", "blåbær"]
    assert answer["errors"] == [{"id": "-: line 2", "reason": "the text is blank: give at least one word"}]
    assert b"1 of 3 failed" in done.stderr
    with Client(str(tiny_artifact)) as client:
        expected = client.embed_texts(["red shoes", "blåbær"])
    np.testing.assert_allclose([item["vector"] for item in answer["items"]], expected, atol=1e-5)


def test_classify(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "a.png").write_bytes(_file())
    (here / "labels.txt").write_text("red, blue\ngreen\n")
    wanted = run("classify", "a.png", "--label", "red, blue", "--label", "green", "--json").json["items"][0]
    assert list(wanted["scores"]) == ["red, blue", "green"]
    pipe(monkeypatch, _file())
    piped = run("classify", "-", "--labels-file", "labels.txt", "--json").json["items"][0]
    assert piped == {**wanted, "id": "-"}
    pipe(monkeypatch, b"red, blue\r\n\r\ngreen\r\n")
    assert run("classify", "a.png", "--labels-file", "-", "--json").json["items"] == [wanted]


def test_search(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, tiny_artifact: Path) -> None:
    (here / "photos").mkdir()
    (here / "photos" / "a.png").write_bytes(_file())
    Image.new("RGB", (9, 9), "red").save(here / "photos" / "b.png")
    with Client(str(tiny_artifact)) as client:
        Index.build("x.index", client, "photos")
    wanted = run("search", "x.index", "--image", "photos/a.png", "--json").json["hits"]
    assert [hit["id"] for hit in wanted] == ["a.png", "b.png"]
    pipe(monkeypatch, _file())
    assert run("search", "x.index", "--image", "-", "--json").json["hits"] == wanted
    by_text = run("search", "x.index", "--text", "red shoes", "--json").json["hits"]
    pipe(monkeypatch, b"\nred shoes\n")
    assert run("search", "x.index", "--text", "-", "--json").json["hits"] == by_text
    (here / "-").write_bytes(_file())
    assert run("search", "x.index", "--image", "./-", "--json").json["hits"] == wanted
    for option, value, message in (
        ("--image", "photos", "error: photos: is a folder: name the pictures in it"),
        ("--image", "https://a.example/b.png", "error: --image: https://a.example/b.png: URLs are not fetched"),
        ("--image", "gone.png", "error: gone.png: No such file or directory"),
        ("--text", " ", "error: --text: the text is blank"),
    ):
        outcome = run("search", "x.index", option, value, "-k", 2)
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
        assert outcome.err.startswith(message)


@pytest.mark.parametrize(
    ("arguments", "data", "message"),
    [
        (["embed", "-"], b"", "error: -: the picture is empty (0 bytes)"),
        (["embed", "-"], b"\0" * 5000, "error: -: this is no picture in a known format"),
        (["embed", "-"], b"<html>", "error: -: this is an HTML page, not a picture"),
        (["embed", "-"], _file()[:-40], "error: -: the picture is damaged or cut short"),
        (["embed", "-"], bytes((32 << 20) + 1), "error: -: standard input gives more than 33554432 bytes"),
        (["embed", "--text", "-"], b"", "error: there is nothing to do: no text was found"),
        (["embed", "--text", "-"], b"\xff\xd8\xff", "error: -: line 1: byte 0xFF at column 1 is not UTF-8"),
        (["embed", "--texts-file", "-"], b"a\0b\n", "error: -: line 1: the text holds a NUL character"),
        (["embed", "--texts-file", "-"], bytes(1 << 21), "error: -: line 1 has more than 1048576 bytes"),
        (["classify", "-", "--labels", "a,b"], b"", "error: -: the picture is empty"),
        (["classify", "a", "--labels-file", "-"], b"cat\xe9", "error: -: line 1: byte 0xE9 at column 4"),
        (["classify", "a", "--labels-file", "-"], b"cat\n", "error: labels has 'cat' alone"),
        (["search", "x", "--image", "-"], bytes((32 << 20) + 1), "error: --image: standard input gives more"),
        (["search", "x", "--text", "-"], b"a\nb\n", "error: --text -: standard input holds 2 texts"),
        (["search", "x", "--text", "-"], b"", "error: --text -: standard input holds 0 texts"),
        (["search", "x", "--text", "-"], b"\xff", "error: -: line 1: byte 0xFF"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], data: bytes, message: str
) -> None:
    pipe(monkeypatch, data)
    outcome = run(*arguments)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith(message)


@pytest.mark.parametrize(
    ("arguments", "both"),
    [
        (["embed", "-", "a.png", "-"], "- and -"),
        (["embed", "--text", "-", "--text", "-"], "--text - and --text -"),
        (["embed", "--text", "-", "--texts-file", "-"], "--text - and --texts-file -"),
        (["classify", "-", "--labels-file", "-"], "--labels-file - and -"),
    ],
)
def test_two_readers_are_refused(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], both: str
) -> None:
    pipe(monkeypatch, b"a\nb\n")
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {both} both read standard input: ")
    assert outcome.err.count("\n") == 1


def test_closed_standard_input_is_one_line(here: Path) -> None:
    program = f'exec "{sys.executable}" -m protoclip embed - <&-'
    done = subprocess.run(["sh", "-c", program], capture_output=True, check=False, timeout=60, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: -: standard input is closed: pipe a picture file into the command\n"


@pytest.mark.parametrize(
    ("arguments", "waits_for"),
    [
        (["embed", "-"], b"waiting for a picture file on standard input; Ctrl-D ends it"),
        (["embed", "--text", "-"], b"waiting for texts, one a line, on standard input; Ctrl-D ends it"),
    ],
)
def test_a_terminal_is_told_what_is_waited_for(here: Path, arguments: list[str], waits_for: bytes) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b"red shoes\n\x04")
    try:
        done = protoclip(*arguments, stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert waits_for in done.stderr
    assert done.returncode == (0 if "--text" in arguments else 2)
    assert (b"red shoes" in done.stdout) == ("--text" in arguments)


def test_urls_are_refused_among_good_pictures(run: Run, here: Path) -> None:
    (here / "a.png").write_bytes(_file())
    uri = "data:image/png;base64," + "A" * 5000
    outcome = run("embed", "https://a.example/b.png", "a.png", uri, "", (here / "a.png").as_uri(), "--json")
    assert outcome.code == 0
    assert [item["id"] for item in outcome.json["items"]] == ["a.png", str(here / "a.png")]
    errors = outcome.json["errors"]
    assert [error["id"] for error in errors] == ["https://a.example/b.png", uri[:119] + "…", "''"]
    assert errors[0]["reason"] == "URLs are not fetched: download it and name the file"
    assert "data URIs are not decoded" in errors[1]["reason"]
    assert errors[2]["reason"] == "the path is empty: name a file"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "https://a.example/b.png"], "https://a.example/b.png: URLs are not fetched"),
        (["embed", "a.png", "--out", "s3://bucket/v.npz"], "--out s3://bucket/v.npz: nothing is written to a URL"),
        (["embed", ""], "the path is empty"),
        (["embed", "a.png", "--texts-file", "t.txt"], "embed takes either pictures or --text and --texts-file"),
        (["classify", "ftp://bucket/a.png", "--labels", "a,b"], "ftp://bucket/a.png: URLs are not fetched"),
        (["index", "build", "https://a.example/photos", "x.index"], "https://a.example/photos: URLs are not"),
        (["index", "build", "photos", "s3://bucket/x.index"], "s3://bucket/x.index"),
        (["index", "build", "photos", "x.index", "--metadata", "https://a.example/m.csv"], "m.csv: URLs are not"),
    ],
)
def test_urls_are_one_line(run: Run, here: Path, arguments: list[str], message: str) -> None:
    (here / "photos").mkdir()
    for name in ("a.png", "photos/a.png"):
        (here / name).write_bytes(_file())
    before = sorted(here.rglob("*"))
    outcome = run(*arguments)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert message in outcome.err
    assert sorted(here.rglob("*")) == before

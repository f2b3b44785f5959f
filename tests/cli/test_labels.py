"""What `--labels`, `--label` and `--labels-file` stand for, and the lines of files."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from command_line import runner

from protoclip.cli.client.classes import templates_of
from protoclip.cli.client.inputs import labels_of, text_inputs
from protoclip.cli.client.standard_input import StandardInput
from protoclip.contract.errors import ConfigError, DataError
from protoclip.contract.zero_shot import TEMPLATES


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder has a file of labels, and folders that are called like classes."""
    monkeypatch.chdir(tmp_path)
    Path("labels.txt").write_text("red\ngreen\n", encoding="utf-8")
    Path("cat").mkdir()
    Path("dog").mkdir()


def labels(groups: Sequence[str] = (), single: Sequence[str] = (), file: str | None = None) -> tuple[str, ...]:
    return labels_of(groups, single, file, StandardInput())


def _piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_commas_part_them_or_stand_in_them() -> None:
    assert labels(["cat, dog", "bird"]) == ("cat", "dog", "bird")
    assert labels(single=["red, blue", "green"]) == ("red, blue", "green")
    assert labels(["cat"], ["red, blue"], "labels.txt") == ("cat", "red, blue", "red", "green")
    assert labels(single=["labels.txt", "@x"]) == ("labels.txt", "@x")


@pytest.mark.parametrize(
    "data",
    [
        "red, blue\ngrün\n",
        "\n  red, blue \r\n\r\n \t\ngrün",
        "\ufeffred, blue\ngrün\n",
    ],
)
def test_a_file_holds_one_a_line(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own.txt").write_bytes(data.encode())
    for name in ("own.txt", Path("own.txt").absolute().as_uri()):
        assert labels(file=name) == ("red, blue", "grün")
    _piped(monkeypatch, data.encode())
    assert labels(file="-") == ("red, blue", "grün")


def test_other_line_separators_are_characters() -> None:
    Path("own.txt").write_text("a\u2028b\nc\x0cd\n", encoding="utf-8")
    assert labels(file="own.txt") == ("a\u2028b", "c\x0cd")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "--labels-file own.txt: holds no label"),
        (b"\n \n", "--labels-file own.txt: holds no label"),
        (b"red\ncaf\xe9\n", "own.txt: line 2: byte 0xE9 at column 4 is not UTF-8: save the file as UTF-8"),
        ("é".encode() + b"\xff\n", "own.txt: line 1: byte 0xFF at column 2 is not UTF-8"),
        ("red\ngreen\n".encode("utf-16"), "own.txt: line 1: byte 0xFF at column 1 is not UTF-8"),
        (b"red\ngr\0een\n", "own.txt: line 2: the text holds a NUL character at position 2"),
        (b"red\rgreen\n", "own.txt: line 1: a carriage return parts the line"),
        (b"red\ngreen\n\nred \n", "own.txt: line 4: 'red' is there twice, first in line 1: keep one"),
        (b"red\n" + bytes(1 << 21), "own.txt: line 2 has more than 1048576 bytes"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(data: bytes, reason: str) -> None:
    Path("own.txt").write_bytes(data)
    with pytest.raises(DataError) as caught:
        labels(file="own.txt")
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("missing.txt", "--labels-file missing.txt: can't be read: No such file or directory"),
        ("cat", "--labels-file cat: can't be read: Is a directory"),
        ("a\0b", "can't be read: embedded null"),
        ("", "--labels-file: the path is empty"),
        ("https://a.example/labels.txt", "--labels-file: https://a.example/labels.txt: URLs are not fetched"),
    ],
)
def test_what_is_no_file_is_refused(file: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        labels(file=file)


@pytest.mark.parametrize(
    ("groups", "file"),
    [
        (["labels.txt"], "labels.txt"),
        (["@labels.txt"], "labels.txt"),
        (["cat,labels.txt"], "labels.txt"),
        (["cat", "labels.txt"], "labels.txt"),
        (["plain"], "plain"),
        (["@gone.txt"], "gone.txt"),
        (["-"], "-"),
    ],
)
def test_a_file_in_the_place_of_labels_is_refused_with_the_way_out(groups: list[str], file: str) -> None:
    """It was the one class of every picture, with 100 %."""
    Path("plain").touch()
    with pytest.raises(ConfigError, match=f"use --labels-file {file}; a class of this name is --label "):
        labels(groups)


def test_a_file_without_suffix_among_labels_is_a_class() -> None:
    Path("bird").touch()
    assert labels(["cat,dog,bird"]) == ("cat", "dog", "bird")


@pytest.mark.parametrize(
    ("groups", "single", "file", "reason"),
    [
        ([], [], None, "classes are needed: --labels cat,dog, or --label 'red, blue' --label green, or "),
        (["cat,,dog"], [], None, r"labels\[1\]='' is no label"),
        ([], ["cat", " "], None, r"labels\[1\]='' is no label"),
        (["cat,dog,cat"], [], None, "labels has 'cat' more than once"),
        (["cat,dog"], ["cat "], None, "labels has 'cat' more than once"),
        (["red,cat"], [], "labels.txt", "labels has 'red' more than once"),
    ],
)
def test_wrong_labels(groups: list[str], single: list[str], file: str | None, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        labels(groups, single, file)


def test_texts_are_lines_as_they_stand_and_bad_ones_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b" a  red shoe\n\ncaf\xe9\nblue, green\nlast"
    Path("texts.txt").write_bytes(data)
    inputs = text_inputs(["first"], "texts.txt", StandardInput())
    assert inputs.names == inputs.items == ["first", " a  red shoe", "blue, green", "last"]
    assert [(bad.name, bad.reason.split(":")[0]) for bad in inputs.failed] == [
        ("texts.txt: line 2", "the text is blank"),
        ("texts.txt: line 3", "byte 0xE9 at column 4 is not UTF-8"),
    ]
    _piped(monkeypatch, data)
    inputs = text_inputs(["first", "-", "after"], None, StandardInput())
    assert inputs.items == ["first", " a  red shoe", "blue, green", "last", "after"]
    assert [bad.name for bad in inputs.failed] == ["-: line 2", "-: line 3"]


def test_wrong_labels_are_told_before_a_server_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(monkeypatch, capsys)
    outcome = run("classify", "a.png", "--labels", "labels.txt", "--url", "http://127.0.0.1:9")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "use --labels-file labels.txt" in outcome.err


def test_templates_are_sets_texts_and_files() -> None:
    Path("own.txt").write_text("a drawing of {}\n\n  {} on a shelf\n", encoding="utf-8")

    def found(*given: str) -> tuple[str, ...]:
        return templates_of(given, StandardInput())

    assert found() == ("{}",)
    assert found("photo", "{}", "a {}, isn't it") == (*TEMPLATES["photo"], "a {}, isn't it")
    assert found("own.txt") == ("a drawing of {}", "  {} on a shelf")
    assert len(found("imagenet")) == len(found("simple", "imagenet")) == 80


@pytest.mark.parametrize(
    ("given", "error", "reason"),
    [
        ("none", ConfigError, "--templates none: is no set"),
        ("{} and {}", ConfigError, "needs exactly one {}"),
        ("labels.txt", DataError, "labels.txt: line 1: template 'red' needs exactly one {}"),
        ("empty.txt", DataError, "--templates empty.txt: holds no template"),
        ("latin.txt", DataError, "latin.txt: line 2: byte 0xE9"),
    ],
)
def test_wrong_templates(given: str, error: type[Exception], reason: str) -> None:
    Path("empty.txt").write_bytes(b"\n \n")
    Path("latin.txt").write_bytes(b"a {}\ncaf\xe9 {}\n")
    with pytest.raises(error) as caught:
        templates_of([given], StandardInput())
    assert reason in str(caught.value)

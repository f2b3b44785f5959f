"""A telephone's pictures in a folder: trained on, embedded and indexed alike, or left out by name in all three."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, runner
from PIL import Image

from protoclip.config.schema import DataConfig
from protoclip.data.table import load_pairs
from protoclip.sources import ReadOptions, read_pairs

REASON = "this is HEIC, which is read where the extra `heic` is installed .*pip install pillow-heif"


@pytest.fixture
def run(tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Commands that decode in this process."""
    monkeypatch.setenv("PROTOCLIP_URL", str(tiny_artifact))
    return runner(monkeypatch, capsys)


@pytest.fixture
def phone(tmp_path: Path) -> Path:
    """Two classes with a JPEG, one without suffix, a .jfif, an AVIF, two HEICs, and a HEIC that is called .jpg."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    for number, name in enumerate(("cat", "dog")):
        folder = tmp_path / "phone" / name
        folder.mkdir(parents=True)
        picture = Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 30, 3), dtype=np.uint8))
        for file in ("a.jpg", "b", "c.jfif"):
            picture.save(folder / file, "JPEG")
        picture.save(folder / "d.avif", "AVIF")
        for file in ("e.HEIC", "f", "g.jpg"):
            pillow_heif.from_pillow(picture).save(folder / "x.heic", quality=80)
            (folder / "x.heic").rename(folder / (file if file != "f" else "f without suffix"))
    return tmp_path / "phone"


READ = ["a.jpg", "b", "c.jfif", "d.avif"]
HEIC = ["e.HEIC", "f without suffix"]


def test_all_are_read_where_the_extra_is(run: Run, phone: Path, tmp_path: Path) -> None:
    assert len(load_pairs(DataConfig(path=(str(phone),)))) == 14
    embedded = run("embed", phone, "--json").json
    assert (len(embedded["items"]), embedded["errors"]) == (14, [])
    built = run("index", "build", phone, tmp_path / "x.index", "--json").json
    assert (built["entries"], built["left_out"]) == (14, [])


def test_without_the_extra_each_is_named_alike(
    run: Run, phone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    pairs = load_pairs(DataConfig(path=(str(phone),)))
    # What is called .jpg is not looked into before it is decoded.
    assert sorted(Path(image).name for image in pairs.images) == sorted(2 * [*READ, "g.jpg"])
    assert sorted(Path(skipped.name).name for skipped in pairs.left_out) == sorted(2 * HEIC)
    assert all(re.match(REASON, skipped.reason) for skipped in pairs.left_out)
    embedded = run("embed", phone, "--json").json
    built = run("index", "build", phone, tmp_path / "x.index", "--json").json
    assert sorted(Path(item["id"]).name for item in embedded["items"]) == sorted(2 * READ)
    assert built["entries"] == 8
    for left_out in (embedded["errors"], built["left_out"]):
        assert sorted(Path(item["id"]).name for item in left_out) == sorted(2 * [*HEIC, "g.jpg"])
        assert all(re.match(REASON, item["reason"]) for item in left_out)
    single = run("embed", phone / "cat" / "e.HEIC")
    assert (single.code, single.err.count("\n")) == (2, 1)
    assert re.search(REASON, single.err)


def test_what_was_read_before_the_extra_came_is_read_again(phone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in phone.rglob("*"):
        os.utime(file, (1e9, 1e9))  # what was just written is never kept
    options = ReadOptions((str(phone),))
    for _ in range(2):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, "pillow_heif", None)
            assert len(read_pairs(options)) == 10
        assert len(read_pairs(options)) == 14


def test_captions_beside_pictures_of_every_kind(
    tmp_path: Path, phone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "beside"
    folder.mkdir()
    for number, file in enumerate(("a.jpg", "d.avif", "e.HEIC")):
        (folder / f"{number}{Path(file).suffix}").write_bytes((phone / "cat" / file).read_bytes())
        (folder / f"{number}.txt").write_text(f"caption {number}")
    pairs = read_pairs(ReadOptions((str(folder),)))
    assert [own[0] for own in pairs.texts] == ["caption 0", "caption 1", "caption 2"]
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    pairs = read_pairs(ReadOptions((str(folder),)))
    assert [own[0] for own in pairs.texts] == ["caption 0", "caption 1"]
    assert [Path(skipped.name).name for skipped in pairs.left_out] == ["2.HEIC"]
    # An index asks its server, which has packages of its own.
    pairs = read_pairs(ReadOptions((str(folder),), texts=False, decoded_here=False))
    assert (len(pairs), pairs.left_out) == (3, ())

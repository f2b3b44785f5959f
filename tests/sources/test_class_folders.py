"""Class folders: pictures are told by their content, and what is none is named."""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_training import draw_picture

from protoclip.cli.train.output import show_plan
from protoclip.config.load import build_config
from protoclip.config.schema import DataConfig
from protoclip.contract.pixels import PixelSpec, decode_rgb
from protoclip.data.table import load_pairs
from protoclip.training.session import build_session

HEIC = b"\x00\x00\x00\x18ftypheic" + bytes(16)


@pytest.fixture(autouse=True)
def _without_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 12 pictures, a third of them without suffix or called .jfif, and what is no picture."""
    for number, (colour, suffix) in enumerate((c, s) for c in ("red", "blue") for s in (".png", "", ".jfif")):
        folder = tmp_path / "photos" / f"{colour}_things"
        folder.mkdir(parents=True, exist_ok=True)
        for copy in range(4):
            (folder / f"p{suffix[1:]}{copy}{suffix}").write_bytes(draw_picture(colour, "disc", 10 * number + copy))
    (tmp_path / "photos" / "red_things" / "IMG_1.HEIC").write_bytes(HEIC)
    (tmp_path / "photos" / "red_things" / "notes.txt").write_text("bought in May")
    (tmp_path / "photos" / "blue_things" / ".DS_Store").write_bytes(b"hidden")
    return tmp_path / "photos"


def test_pictures_are_told_by_their_content(photos: Path) -> None:
    pairs = load_pairs(DataConfig(path=(str(photos),)))
    assert len(pairs) == 24
    assert {own[0] for own in pairs.texts} == {"red things", "blue things"}
    names = {Path(skipped.name).name: skipped.reason for skipped in pairs.left_out}
    assert sorted(names) == ["IMG_1.HEIC", "notes.txt"]
    assert "not a picture in JPEG, PNG" in names["notes.txt"]
    assert re.search("this is HEIC, .* the extra `heic` .*pip install pillow-heif", names["IMG_1.HEIC"])
    assert pairs.select(pairs.column("class") == "red_things").left_out == pairs.left_out


def test_training_names_what_it_leaves_out(
    photos: Path, shapes_config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    shapes_config["data"] = {"path": str(photos)}
    shapes_config["evaluation"] = {}
    with caplog.at_level(logging.WARNING):
        build_session(build_config(shapes_config, "test"), lambda items, _: items)
    assert "2 rows and files are left out: " in caplog.text
    assert "IMG_1.HEIC: this is HEIC, which is read where" in caplog.text


def test_links_to_folders_are_not_followed(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "red_things", tmp_path / "elsewhere")
    (photos / "blue_things" / "more").symlink_to(tmp_path / "elsewhere")
    assert len(load_pairs(DataConfig(path=(str(photos),)))) == 24


def test_heic_is_trained_on_where_it_is_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    picture = Image.open(io.BytesIO(draw_picture("red", "disc", 1)))
    pillow_heif.from_pillow(picture).save(photos / "red_things" / "IMG_1.HEIC", quality=90)
    pairs = load_pairs(DataConfig(path=(str(photos),)))
    assert len(pairs) == 25
    assert [Path(skipped.name).name for skipped in pairs.left_out] == ["notes.txt"]
    row = next(row for row, image in enumerate(pairs.images) if str(image).endswith("IMG_1.HEIC"))
    shown = np.asarray(decode_rgb(pairs.read_image(row), PixelSpec(8, 8)), dtype=int)
    assert np.abs(shown - np.asarray(picture)).mean() < 5


def test_a_dry_run_counts_and_names_what_it_would_leave_out(
    photos: Path, shapes_config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes_config["data"] = {"path": str(photos)}
    shapes_config["evaluation"] = {}
    config = build_config(shapes_config, "test")
    show_plan(config, tmp_path / "run", resume=False, as_json=True)
    data = json.loads(capsys.readouterr().out)["data"]
    assert sum(data["left_out"].values()) == 2
    assert {Path(skipped["name"]).name for skipped in data["first_left_out"]} == {"IMG_1.HEIC", "notes.txt"}
    show_plan(config, tmp_path / "run", resume=False, as_json=False)
    shown = "".join(part.strip(" │\n") for part in capsys.readouterr().out.splitlines())
    assert "left out: not a picture in JPEG" in shown
    assert "IMG_1.HEIC: " in shown

"""The script of the large corpus on a made-up package: what is kept and drawn, and both forms read alike."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protoclip.sources import Pairs, ReadOptions, read_pairs

ROOT = Path(__file__).parents[1]
# The package `scripts` is imported from the project's root alone: tests have a module of this name.
MAKE = """
import sys
from pathlib import Path
from scripts.build_corpus.sources import Package
from scripts.icons.__main__ import make
cache, out, sha256 = sys.argv[1:]
make(Path(cache), Path(out), 2, Package("@iconify/json", "0.0.1", sha256), block_pairs=4)
"""
KILLED_WITH_WORKERS = """
import os, signal
from scripts.icons.building import workers
with workers(1) as executor:
    executor.submit(os.getpid).result()
    os.kill(os.getpid(), signal.SIGKILL)
"""
DISC = '<circle cx="12" cy="12" r="9" fill="currentColor"/>'


def icon_file(prefix: str, spdx: str | None, icons: dict[str, Any], **more: Any) -> dict[str, Any]:
    terms = {"title": "a licence", **({"spdx": spdx} if spdx else {}), "url": f"https://{prefix}.example/licence"}
    info = {"name": prefix.title(), "author": {"name": f"{prefix}'s, authors"}, "license": terms}
    icons = {name: {"body": icon} if isinstance(icon, str) else icon for name, icon in icons.items()}
    return {"prefix": prefix, "info": info, "icons": icons, "width": 24, "height": 24, **more}


SETS = [
    icon_file(
        "amber",
        "MIT",
        {
            "home-outline": DISC,
            "home": '<path d="M0 0h24v24H0z" fill="currentColor"/><path d="M6 6h12v12H6z" fill="#fff"/>',
            "home-2": DISC,
            "home-20": DISC,
            "boat-outline": DISC,
            "user-24px-outline": DISC,
            "old": {"body": DISC, "hidden": True},
            "bad": '<path d="M0 0h24',
            "white": '<path d="M0 0h24v24H0z" fill="#fff"/>',
            "wide": {
                "body": '<path d="M8 2h40v20H8z" fill="#00f"/>',
                "left": 8,
                "top": 2,
                "width": 40,
                "height": 20,
            },
        },
        aliases={"house": {"parent": "home"}},
    ),
    # Few icons end in -light or -12: these are no styles here.
    icon_file(
        "birch",
        "Apache-2.0",
        {"traffic-light": DISC, "clock": DISC, "clock-12": DISC, **{f"thing{i}": DISC for i in range(30)}},
    ),
    icon_file("cedar", "CC-BY-4.0", {"round-key": DISC, "sharp-key": DISC}, prefixes={"round": "R", "sharp": "S"}),
    icon_file(
        "elm", "OFL-1.1", {"key": DISC, "key-20-cut": DISC, "key-cut": DISC}, suffixes={"": "R", "cut": "C"}
    ),
    icon_file("fir", "CC0-1.0", {"home": DISC, "boat": DISC}),
    icon_file("hazel", "CC-BY-NC-4.0", {"home": DISC}),
    icon_file("ivy", None, {"home": DISC}),
]
CHOSEN = {
    "amber/home": "home",
    "amber/boat-outline": "boat",
    "amber/user-24px-outline": "user",
    "amber/home-2": "home 2",
    "amber/wide": "wide",
    "birch/traffic-light": "traffic light",
    "birch/clock-12": "clock 12",
    "birch/clock": "clock",
    **{f"birch/thing{i}": f"thing{i}" for i in range(30)},
    "cedar/round-key": "key",
    "elm/key": "key",
    "fir/home": "home",
    "fir/boat": "boat",
}


def write_package(cache: Path) -> str:
    """A tarball such as npm's; its SHA-256."""
    path = cache / "iconify-json-0.0.1.tgz"
    cache.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        files = {f"json/{data['prefix']}.json": data for data in SETS} | {"package.json": {"name": "x"}}
        for name, data in files.items():
            member, text = tarfile.TarInfo(f"package/{name}"), json.dumps(data).encode()
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def make(cache: Path, out: Path, sha256: str) -> subprocess.CompletedProcess[str]:
    return run(MAKE, str(cache), str(out), sha256)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    cache = tmp_path_factory.mktemp("icons") / "cache"
    return cache, write_package(cache)


@pytest.fixture(scope="module")
def corpus(package: tuple[Path, str]) -> Path:
    """The corpus, finished by one start."""
    out = package[0].parent / "corpus"
    done = make(package[0], out, package[1])
    assert done.returncode == 0, done.stderr
    assert f"{len(CHOSEN)} pictures of 5 sets, 39 names" in done.stderr
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def read(path: Path, **options: Any) -> Pairs:
    return read_pairs(ReadOptions((str(path),), **options))


def test_one_icon_a_name_of_the_sets_whose_licence_is_kept(corpus: Path) -> None:
    pairs = read(corpus / "parquet")
    found = [f"{s}/{i}" for s, i in zip(pairs.column("set"), pairs.column("icon"), strict=True)]
    assert dict(zip(found, [texts[0] for texts in pairs.texts], strict=True)) == CHOSEN
    assert found == sorted(found, key=lambda key: hashlib.md5(key.encode()).hexdigest())
    split = dict(zip(found, pairs.column("split"), strict=True))
    assert {key: cell for key, cell in split.items() if cell != "train" and "thing" not in key} == {
        "amber/boat-outline": "unseen_name",
        "fir/home": "unseen_set",
        "fir/boat": "unseen_both",
    }
    assert set(zip(pairs.column("set"), pairs.column("license"), strict=True)) == {
        ("amber", "MIT"),
        ("birch", "Apache-2.0"),
        ("cedar", "CC-BY-4.0"),
        ("elm", "OFL-1.1"),
        ("fir", "CC0-1.0"),
    }


def test_both_forms_hold_the_same_pairs_in_the_same_order(corpus: Path) -> None:
    table, shards = read(corpus / "parquet"), read(corpus / "shards")
    assert len(table) == len(CHOSEN)
    assert list(table.texts) == list(shards.texts)
    assert sorted(table.columns) == sorted(shards.columns)
    for name in table.columns:
        assert table.column(name).tolist() == shards.column(name).tolist()
    assert [table.read_image(i) for i in range(len(table))] == [shards.read_image(i) for i in range(len(shards))]
    assert not table.left_out
    assert not shards.left_out


def test_pictures_are_black_or_coloured_on_white_and_centred(corpus: Path) -> None:
    pairs = read(corpus / "parquet")
    icons = pairs.column("icon").tolist()
    pictures = {
        name: np.asarray(Image.open(io.BytesIO(pairs.read_image(icons.index(name)))))
        for name in ("traffic-light", "wide")
    }
    for picture in pictures.values():
        assert picture.shape == (64, 64, 3)
    assert pictures["traffic-light"][32, 32].tolist() == [0, 0, 0]
    assert pictures["traffic-light"][0, 0].tolist() == [255, 255, 255]
    wide = (pictures["wide"] == [0, 0, 255]).all(axis=2)
    assert wide[16:48].all()
    assert not wide[:16].any()
    assert not wide[48:].any()


def test_what_is_left_out_is_named_and_every_set_is_listed(corpus: Path) -> None:
    with open(corpus / "left_out.csv", encoding="utf-8", newline="") as stream:
        left_out = {row["name"]: row["reason"] for row in csv.DictReader(stream)}
    assert left_out.keys() == {"amber/bad", "amber/white"}
    assert left_out["amber/bad"].startswith("bad SVG: ")
    assert left_out["amber/white"] == "blank: one colour all over"
    with open(corpus / "licences.csv", encoding="utf-8", newline="") as stream:
        rows = {row["set"]: row for row in csv.DictReader(stream)}
    counts = {name: (row["license"], row["kept"], row["icons"], row["pictures"]) for name, row in rows.items()}
    assert counts == {
        "amber": ("MIT", "yes", "10", "5"),
        "birch": ("Apache-2.0", "yes", "33", "33"),
        "cedar": ("CC-BY-4.0", "yes", "2", "1"),
        "elm": ("OFL-1.1", "yes", "3", "1"),
        "fir": ("CC0-1.0", "yes", "2", "2"),
        "hazel": ("CC-BY-NC-4.0", "no", "1", "0"),
        "ivy": ("", "no", "1", "0"),
    }
    assert rows["cedar"]["author"] == "cedar's, authors"
    assert rows["cedar"]["license_url"] == "https://cedar.example/licence"


def test_a_second_start_goes_on_and_gives_the_same_bytes(corpus: Path, package: tuple[Path, str]) -> None:
    whole = contents(corpus)
    again = make(package[0], corpus, package[1])
    assert "nothing to do" in again.stderr
    # As a start leaves it that is killed within its third block.
    kept = corpus / "parquet" / "00000-of-00011.parquet"
    before = kept.stat().st_mtime_ns
    for number in range(2, 11):
        (corpus / "shards" / f"{number:05d}.tar").unlink()
        if number > 2:
            (corpus / "parquet" / f"{number:05d}-of-00011.parquet").unlink()
    (corpus / "licences.csv").unlink()
    (corpus / "left_out.csv").unlink()
    done = make(package[0], corpus, package[1])
    assert done.returncode == 0, done.stderr
    assert contents(corpus) == whole
    assert kept.stat().st_mtime_ns == before
    (corpus / "shards" / "00001.tar").unlink()
    assert make(package[0], corpus, package[1]).returncode == 0
    assert contents(corpus) == whole


def test_what_was_made_with_something_else_is_not_gone_on_with(corpus: Path, tmp_path: Path) -> None:
    sha256 = write_package(tmp_path / "cache")
    claim = corpus / "made_with.json"
    written = claim.read_text()
    try:
        claim.write_text(written.replace('"rules": 1', '"rules": 0'))
        done = make(tmp_path / "cache", corpus, sha256)
    finally:
        claim.write_text(written)
    assert done.returncode == 1
    assert "rules: 0, now 1" in done.stderr


def test_without_node_js_one_line_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.icons", "--cache", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "npm is not on PATH: install Node.js, it fetches the packages\n"


def test_workers_end_with_a_killed_parent() -> None:
    # Its output ends where the last process that holds it does: a worker that stayed would be waited for.
    assert run(KILLED_WITH_WORKERS).returncode == -signal.SIGKILL

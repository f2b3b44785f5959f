"""Pictures far from the corpus: what the script makes and takes, and the study of them on made-up embeddings."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from protoclip.contract.errors import DataError
from scripts import load_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("benchmarks/far_pictures.py")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, script: ModuleType) -> Path:
    """Icons of two sets, and a wheel with a plain picture for each photograph."""
    folder = tmp_path_factory.mktemp("packages")
    rows = [
        {"image": {"bytes": png((number, 0, 0)), "path": "a.png"}, "set": name, "license": "MIT"}
        for name in ("lucide", "mdi")
        for number in range(3)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")
    names = script.photographs.__globals__["IN_WHEEL"]
    with zipfile.ZipFile(folder / "scikit_image-0.26.0-any.whl", "w") as wheel:
        for name in names:
            wheel.writestr(f"skimage/data/{name}", png((0, 99, 0), 80))
    return folder


def png(colour: tuple[int, int, int], size: int = 64) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(stream, "PNG")
    return stream.getvalue()


def decoded(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_folders_of_all_kinds_with_their_sources(script: ModuleType, packages: Path, tmp_path: Path) -> None:
    out = tmp_path / "far"
    script.make(out, packages, packages, count=3)
    pictures = {folder.name: sorted(folder.iterdir()) for folder in out.iterdir() if folder.is_dir()}
    assert sorted(pictures) == ["line_icons", "noise", "photographs", "textures"]
    for paths in pictures.values():
        assert [path.name for path in paths] == ["00000.png", "00001.png", "00002.png"]
        assert {decoded(path).shape for path in paths} == {(64, 64, 3)}
    # Only of sets that are drawn in lines: mdi's have the same colours.
    assert {path.read_bytes() for path in pictures["line_icons"]} == {png((number, 0, 0)) for number in range(3)}
    assert decoded(pictures["photographs"][0])[5, 5].tolist() == [0, 99, 0]
    with open(out / "SOURCES.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["kind"] for row in rows} == set(pictures)
    assert ["flower.jpg", "CC-BY-2.0", "vultilion"] in [list(row.values())[1:] for row in rows]
    assert "mdi" not in {row["source"] for row in rows}
    with pytest.raises(DataError, match="is there already"):
        script.make(out, packages, packages, count=3)


def test_what_is_missing_is_said_and_leaves_nothing(script: ModuleType, packages: Path, tmp_path: Path) -> None:
    for icons, wheel, count, told in (
        (packages, tmp_path, 3, "pip download --no-deps scikit-image"),
        (packages, packages, 4, "holds 3 icons of the sets feather"),
    ):
        with pytest.raises(DataError, match=told):
            script.make(tmp_path / "far", icons, wheel, count=count)
        assert not (tmp_path / "far").exists()


def test_the_same_seed_makes_the_same_pictures(script: ModuleType) -> None:
    for make in (script.textures, script.noise):
        first, again, other = (make(np.random.default_rng(seed), 4) for seed in (0, 0, 1))
        assert first == again
        assert first != other


def test_tables_of_the_study_over_seeds(script: ModuleType) -> None:
    study = load_script("benchmarks/far_page.py")
    names = [study.DEFAULT, study.MIXTURE, *study.BASELINES, study.GAUSSIAN, study.HEAD]
    found = [
        {
            name: {
                kind: study.Value(60.0 + 5 * place + seed, 50.0, 40.0)
                for kind in (study.NEAR, "noise", study.FAR, study.KNOWN)
            }
            for place, name in enumerate(names)
        }
        for seed in range(3)
    ]
    page = study.report("made by hand", {"noise": 7}, [(one, ("food", "flags")) for one in found])
    assert "food, flags; food, flags; food, flags). Far: 7 noise" in page
    assert f"| {study.HEAD} | 91.0 ± 2.5 | 91.0 ± 2.5 | 91.0 ± 2.5 |" in page
    assert page.index(f"| {study.HEAD} |") < page.index("| neighbours | 61.0 ± 2.5 |")
    assert f"| {study.HEAD} against {study.SINGLE} | +20.0 ± 0.0 | better |" in page
    assert f"| neighbours against {study.SINGLE} | -10.0 ± 0.0 | worse |" in page


def test_class_folders_of_cifar(tmp_path: Path) -> None:
    script = load_script("benchmarks/cifar_folders.py")
    binary = tmp_path / "cifar-100-binary"
    binary.mkdir()
    (binary / "fine_label_names.txt").write_text("apple\nbear\n")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    records = [bytes([9, place % 2]) + own.transpose(2, 0, 1).tobytes() for place, own in enumerate(pixels)]
    (binary / "train.bin").write_bytes(b"".join(records))
    (binary / "test.bin").write_bytes(records[1])
    script.convert(binary, tmp_path / "cifar")
    found = {str(path.relative_to(tmp_path / "cifar")): path for path in (tmp_path / "cifar").rglob("*.png")}
    assert sorted(found) == [
        "test/bear/00000.png",
        "train/apple/00000.png",
        "train/apple/00002.png",
        "train/bear/00001.png",
    ]
    assert np.array_equal(decoded(found["train/apple/00002.png"]), pixels[2])
    (binary / "test.bin").write_bytes(records[1][:-1])
    with pytest.raises(DataError, match=r"test\.bin: 3073 bytes are no whole records of 3074"):
        script.convert(binary, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    with pytest.raises(DataError, match=r"holds no batches\.meta\.txt or fine_label_names\.txt"):
        script.convert(tmp_path, tmp_path / "again")

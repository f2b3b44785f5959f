"""`protoclip export` and `protoclip verify` from the outside: output, exit codes, one-line errors."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from export.engines import open_engine
from export.graphs.runtime import Encoders
from protoclip.cli import main
from protoclip.cli.pairs import SourceOptions
from protoclip.contract.manifest import Precision, load_manifest

pytestmark = pytest.mark.usefixtures("traced_once")

NUM_PAIRS = 256


@dataclass(frozen=True)
class Result:
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def protoclip(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], architectures: tuple[str, ...]
) -> Callable[..., Result]:
    """Runs the command line in this process, where the tiny models are known."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["protoclip", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        captured = capsys.readouterr()
        return Result(0 if code is None else int(code), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 256 drawings with captions."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("table")
    with open(folder / "pairs.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["picture", "caption"])
        for number in range(NUM_PAIRS):
            colour = (number, 255 - number, number * 7 % 256)
            Image.new("RGB", (20, 20), colour).save(folder / f"{number}.png")
            writer.writerow([f"{number}.png", f"colour number {number}"])
    return folder / "pairs.csv"


def test_export_then_verify(protoclip: Callable[..., Result], table: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    data = ("--data", table, "--image-column", "picture", "--text-column", "caption")
    done = protoclip("export", "tiny-vit", "--out", out)
    assert done.code == 0, done.stderr
    assert "texts of the bundled corpus" in done.stdout
    assert "passed" in done.stdout
    assert "proves the graph, not accuracy" in done.stdout
    assert "random weights" in done.stderr
    assert f"next: protoclip serve {out}" in done.stderr
    manifest = load_manifest(out)
    assert (manifest.name, manifest.engine.verdict.num_images) == ("tiny_vit", NUM_PAIRS)

    done = protoclip("verify", out, "tiny-vit", *data, "--json")
    assert done.code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    assert report["num_texts"] == NUM_PAIRS
    assert json.loads((out / "verify.json").read_text()) == report
    assert "onnx_fp32" in (out / "verify.html").read_text()

    done = protoclip("verify", out, "tiny-resnet", *data)
    assert done.code == 2
    assert "other weights or settings than tiny-resnet" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("export", "ViT-B-33"), "did you mean ViT-B-32"),
        (("export", "runs/not-there"), "no such folder"),
        (("export", "tiny-vit", "--opset", "9"), "use 18 to 22"),
        (("export", "tiny-vit", "--samples", "0"), "--samples 0: a comparison needs 8 or more"),
        (
            ("export", "tiny-vit", "--max-batch-size", "0"),
            "--max-batch-size 0: a server takes batches of 1 to 4096",
        ),
        (("export", "tiny-vit", "--name", "No!"), "can't be used"),
        (("export", "tiny-vit", "--weights", "nowhere.pt"), "nowhere.pt: no such file"),
        (("export", "tiny-vit", "--data", "nowhere.csv"), "nowhere.csv: no such file"),
        (("export", "tiny-vit", "--out", "a_file"), "is a file: name a folder with --out"),
        (("export", "tiny-vit", "--out", "a_file/x"), "a_file is a file: name another folder with --out"),
        (("export", "tiny-vit", "--out", "/proc/x"), "/proc can't be written ("),
        (("verify", "nothing", "tiny-vit"), "nothing: no manifest.json"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(
    protoclip: Callable[..., Result],
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("")
    data: tuple[Any, ...] = ("--data", table, "--image-column", "picture", "--text-column", "caption")
    done = protoclip(*arguments, *(() if "--data" in arguments else data))
    assert done.code == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert reason in errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]


@pytest.mark.parametrize(("allowed", "code"), [((), 1), (("--allow-inaccurate",), 3)])
def test_a_precision_that_fails_ends_with_1_unless_allowed(
    protoclip: Callable[..., Result],
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowed: tuple[str, ...],
    code: int,
) -> None:
    def louder(folder: Path, precision: Precision) -> Encoders:
        encoders = open_engine(folder, precision)
        return encoders if precision == "fp32" else replace(encoders, image=lambda x: encoders.image(x) * 1.15)

    monkeypatch.setattr("export.engine_graphs.open_engine", louder)
    data = ("--data", table, "--image-column", "picture", "--text-column", "caption", "--samples", 16)
    done = protoclip("export", "tiny-resnet", "--out", tmp_path / "a", *data, "--precision", "int8", *allowed)
    assert done.code == code, done.stderr
    assert "FAILED" in done.stdout
    assert "onnx_int8: image, unit norm: a row has the norm 1.15" in done.stdout
    engines = [(engine.name, engine.verdict.passed) for engine in load_manifest(tmp_path / "a").engines]
    if allowed:
        assert engines == [("onnx_fp32", True), ("onnx_int8", False)]
        assert "kept although the gate refuses it: onnx_int8" in done.stderr
        assert (
            f"protoclip benchmark {tmp_path / 'a'} tiny-resnet or protoclip serve {tmp_path / 'a'}" in done.stderr
        )
    else:
        assert engines == [("onnx_fp32", True)]
        assert "error: onnx_int8 is left out: " in done.stderr


def test_of_random_weights_a_lower_precision_is_not_proven(
    protoclip: Callable[..., Result], table: Path, tmp_path: Path
) -> None:
    """Untrained embeddings crowd together: int8's errors are as large as their distances, and say nothing."""
    data = ("--data", table, "--image-column", "picture", "--text-column", "caption", "--samples", 16)
    done = protoclip("export", "tiny-resnet", "--out", tmp_path / "a", *data, "--precision", "int8")
    assert done.code == 3, done.stderr
    assert "comparing 2 engines on 16 pictures and texts in batches of 1, 7, 8 and 64: about " in done.stderr
    assert "onnx_int8, not checked: accuracy: the weights are random" in done.stdout
    assert "not proven: the accuracy of onnx_int8, since the weights are random; the graphs are" in done.stderr
    manifest = load_manifest(tmp_path / "a")
    assert manifest.default_engine == "onnx_fp32"
    verdict = manifest.engine_named("onnx_int8").verdict
    assert (verdict.passed, verdict.largest_batch, verdict.num_images) == (True, 64, 16)
    assert any(line.startswith("accuracy: ") for line in verdict.not_checked)
    done = protoclip("verify", tmp_path / "a", "tiny-resnet", *data, "--max-batch-size", 9)
    assert done.code == 3, done.stderr
    report = json.loads((tmp_path / "a" / "verify.json").read_text())
    assert set(report["engines"][1]["image"]["by_batch_size"]) == {"1", "7", "8", "9"}


def test_weights_beside_a_folder_are_refused(protoclip: Callable[..., Result], tmp_path: Path) -> None:
    done = protoclip("export", tmp_path, "--weights", "x.pt")
    assert done.code == 2
    assert "leave --weights out" in done.stderr


def test_a_column_that_is_not_there_is_named(
    protoclip: Callable[..., Result], table: Path, tmp_path: Path
) -> None:
    arguments = ("export", "tiny-vit", "--out", tmp_path / "out", "--data", table)
    done = protoclip(*arguments, "--image-column", "image")
    assert done.code == 2
    assert "column 'image' isn't there: it has picture, caption" in done.stderr


def test_the_next_command_names_weights_and_tokenizer() -> None:
    assert str(SourceOptions("runs/a")) == "runs/a"
    given = SourceOptions("ViT-B-32", Path("my weights.safetensors"), Path("t.json"))
    assert str(given) == "ViT-B-32 --weights 'my weights.safetensors' --tokenizer t.json"

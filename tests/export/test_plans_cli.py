"""`protoclip export --trt` from the outside, with real builds of TensorRT-RTX."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import Run, runner

from export.plans.package import find_gpu
from protoclip.contract.files import sha256_file
from protoclip.contract.manifest import load_manifest, manifest_files

pytestmark = pytest.mark.usefixtures("traced_once")

RTX = ("--trt", "--builder", "tensorrt_rtx")
FAST = ("--builder-level", 0, "--compute-capability", "8.9", "--profile", "1:1:1", "--profile", "2:8:32")


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], architectures: tuple[str, ...]
) -> Run:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("TensorRT-RTX comes for Linux on x86-64 only")
    return runner(monkeypatch, capsys)


# 3: fp16 of random weights, whose accuracy nothing can prove.
@pytest.mark.parametrize(("allowed", "code"), [((), 1), (("--allow-inaccurate",), 3)])
def test_without_a_gpu_plans_are_built_and_not_trusted(
    run: Run, tmp_path: Path, allowed: tuple[str, ...], code: int
) -> None:
    if find_gpu() is not None:
        pytest.skip("there is a GPU here, which runs the plans")
    out = tmp_path / "tiny"
    done = run("export", "tiny-vit", "--out", out, *RTX, *FAST, "--precision", "fp16", *allowed)
    assert done.code == code, done.err
    assert "tensorrt_rtx_fp16: not run: a plan needs an NVIDIA GPU" in done.out
    manifest = load_manifest(out)
    assert manifest.default_engine.startswith("onnx_")
    names = [engine.name for engine in manifest.engines]
    assert {file: sha256_file(out / file) for file in manifest_files(manifest)} == manifest_files(manifest)
    if not allowed:
        assert names == ["onnx_fp32", "onnx_fp16"]
        [line] = [line for line in done.err.splitlines() if line.startswith("error:")]
        assert "tensorrt_rtx_fp16 is left out: not run: a plan needs an NVIDIA GPU" in line
        assert "the ONNX engines stand" in line
        return
    assert names == ["onnx_fp32", "onnx_fp16", "tensorrt_rtx_fp16"]
    assert "although the gate refuses it" not in done.err
    assert "kept unverified: tensorrt_rtx_fp16: on a machine with the GPU that it is for" in done.err
    assert f"`protoclip verify {out} tiny-vit` compares it" in done.err
    _check_engine(manifest.engine_named("tensorrt_rtx_fp16"), manifest.engine_named("onnx_fp16"), out)

    done = run("verify", out, "tiny-vit", "--json")
    assert done.code == 1
    assert [(engine["name"], engine["ran"]) for engine in done.json["engines"]][-1] == ("tensorrt_rtx_fp16", False)
    assert "not run: a plan needs an NVIDIA GPU: on a machine with the GPU that it is for" in done.err
    done = run("repository", out, "--out", tmp_path / "repository", "--engine", "tensorrt_rtx_fp16")
    assert done.code == 2
    assert "Triton has no backend for tensorrt_rtx plans" in done.err


def _check_engine(engine: Any, graph: Any, out: Path) -> None:
    assert not engine.verdict.passed
    assert (out / engine.image_encoder.file).read_bytes()[:4] == b"vtrt"
    assert engine.image_encoder.file == "tensorrt_rtx_fp16/image.plan"
    assert engine.build.gpu is None
    assert engine.build.compute_capabilities == ("8.9",)
    assert [(one.min, one.opt, one.max) for one in engine.build.profiles] == [(1, 1, 1), (2, 8, 32)]
    assert engine.build.onnx_sha256 == (graph.image_encoder.sha256, graph.text_encoder.sha256)
    report = json.loads((out / "verdict.json").read_text())["engines"][-1]
    assert (report["name"], report["ran"], report["answers"]) == ("tensorrt_rtx_fp16", False, None)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--profile", "1:8:32"), "--profile is about TensorRT plans: add --trt"),
        (("--builder-level", 0), "--builder-level is about TensorRT plans: add --trt"),
        ((*RTX, "--profile", "8:1:1"), "profile 8:1:1: needs 1 ≤ min ≤ opt ≤ max"),
        ((*RTX, "--profile", "0:1:8"), "profile 0:1:8: needs 1 ≤ min ≤ opt ≤ max"),
        ((*RTX, "--profile", "8"), "profile '8': write min:opt:max"),
        ((*RTX, "--profile", "2:8:32"), "none takes a batch of 1"),
        (("--trt", "--builder", "tvm"), "builder 'tvm': use auto, tensorrt or tensorrt_rtx"),
        ((*RTX, "--precision", "int8"), "use int8_static"),
        ((*RTX, "--precision", "int4"), "precision 'int4' is unknown"),
        ((*RTX, "--timing-cache", "timings"), "tensorrt_rtx keeps no timing cache"),
        ((*RTX, "--hardware-compatibility", "ampere_plus"), "tensorrt_rtx has no hardware compatibility"),
        ((*RTX, "--hardware-compatibility", "all"), "use one of none, ampere_plus"),
        ((*RTX, "--compute-capability", "8"), "write it like 8.9"),
        ((*RTX, "--builder-level", 6), "builder level 6: use 0 to 5"),
        ((*RTX, "--workspace-mb", 0), "workspace of 0 bytes"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_exported(
    run: Run, tmp_path: Path, arguments: tuple[object, ...], reason: str
) -> None:
    done = run("export", "tiny-vit", "--out", tmp_path / "tiny", *arguments)
    assert done.code == 2
    [line] = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert reason in line
    assert not list(tmp_path.iterdir())

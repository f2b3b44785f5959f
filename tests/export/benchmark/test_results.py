"""The numbers of a cell, the choice among cells, what is saved of it, and the plot's geometry: made-up tables."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from export.benchmark.accuracy import judge
from export.benchmark.candidates import discover
from export.benchmark.chart import make_plot
from export.benchmark.page import benchmark_page
from export.benchmark.results import Accuracy, CandidateResult, Cell, Choice, Missing, choose, make_cell, nearest
from export.benchmark.run import Benchmark, Settings
from export.benchmark.save import next_command, require_choice, save_speeds
from protoclip.contract.errors import ConfigError, ModelError, VerdictError
from protoclip.contract.manifest import BatchProfile, EngineBuild, Manifest, load_manifest

PASSED, FAILED = Accuracy(True, "manifest", 0.99999, 1e-6), Accuracy(False, "manifest", 0.5, 0.1, ("far off",))


def candidate(name: str, accuracy: Accuracy | None = PASSED, engine: str | None = "") -> CandidateResult:
    return CandidateResult(name, name if engine == "" else engine, "fp32", "made up", 1000, accuracy)


def cell(name: str, batch: int, per_s: float, p99: float, encoder: Any = "image") -> Cell:
    return Cell(name, encoder, batch, per_s, p99 * 0.9, p99, False, 100, 2_000_000)


CANDIDATES = (
    candidate("torch_fp32", Accuracy(True, "reference"), engine=None),
    candidate("onnx_fp32"),
    candidate("onnx_int8"),
    candidate("onnx_fp16", FAILED),
)
CELLS = (
    *(cell("torch_fp32", batch, 900.0, 1.0) for batch in (1, 8, 32)),
    *(cell("onnx_fp32", batch, per_s, p99) for batch, per_s, p99 in ((1, 50, 20), (8, 100, 80), (32, 120, 270))),
    *(cell("onnx_int8", batch, per_s, p99) for batch, per_s, p99 in ((1, 60, 25), (8, 150, 90), (32, 200, 300))),
    *(cell("onnx_fp16", batch, 500.0, 2.0) for batch in (1, 8, 32)),
)


def test_a_cell_is_the_median_of_its_rounds() -> None:
    rounds = [[0.1] * 20, [0.2] * 20, [0.05] * 20]
    found = make_cell("a", "image", 8, rounds, 7)
    assert found.items_per_s == pytest.approx(80)
    assert (found.p50_ms, found.p99_ms) == (pytest.approx(100), pytest.approx(200))
    assert (found.calls, found.p99_is_maximum, found.memory_bytes) == (60, False, 7)


def test_few_calls_give_their_maximum_and_say_so() -> None:
    found = make_cell("a", "image", 1, [[0.1] * 28, [0.5]], None)
    assert found.p99_is_maximum
    assert found.p99_ms == pytest.approx(500)
    assert not make_cell("a", "image", 1, [[0.1] * 29, [0.5]], None).p99_is_maximum


@pytest.mark.parametrize(
    ("limit", "engine", "batch"),
    [
        (None, "onnx_int8", 32),
        (300, "onnx_int8", 32),
        (299, "onnx_int8", 8),
        (85, "onnx_fp32", 8),
        (30, "onnx_int8", 1),
        (20, "onnx_fp32", 1),
    ],
)
def test_the_fastest_within_the_limit_is_chosen(limit: float | None, engine: str, batch: int) -> None:
    chosen = choose(CANDIDATES, CELLS, limit)
    assert chosen is not None
    assert (chosen.engine, chosen.batch) == (engine, batch)


def test_nothing_is_chosen_beyond_the_limit_and_the_nearest_is_named() -> None:
    assert choose(CANDIDATES, CELLS, 19.9) is None
    near = nearest(CANDIDATES, CELLS)
    assert near is not None
    assert (near.engine, near.batch) == ("onnx_fp32", 1)


def test_neither_failed_nor_unmeasured_nor_other_arms_are_chosen() -> None:
    others = [
        candidate("onnx_fp32", FAILED),
        candidate("onnx_int8", None),
        candidate("onnx_fp16", PASSED, engine=None),
    ]
    assert choose(others, CELLS) is None
    assert nearest(others, CELLS) is None


def test_both_encoders_have_to_keep_the_limit() -> None:
    texts = [cell("onnx_int8", 1, 10, 10, "text"), cell("onnx_int8", 8, 1000, 99, "text")]
    cells = [each for each in CELLS if each.candidate == "onnx_int8" and each.batch < 32]
    chosen = choose(CANDIDATES, [*texts, *cells], 95)
    assert chosen == Choice("onnx_int8", "onnx_int8", 1, 60, 25)
    chosen = choose(CANDIDATES, [*texts, *cells], 99)
    assert chosen == Choice("onnx_int8", "onnx_int8", 8, 150, 99)
    chosen = choose(CANDIDATES, texts, None)
    assert chosen is not None
    assert chosen.items_per_s == 1000


def test_openvino_has_to_be_clearly_faster_at_the_same_precision() -> None:
    own = replace(candidate("openvino_fp32"), backend="OpenVINO 2026.4.1 on the CPU, computing in f32")
    for speed, chosen in ((129.0, "onnx_fp32"), (130.0, "openvino_fp32")):
        found = choose((own, candidate("onnx_fp32")), [cell(own.name, 8, speed, 5), cell("onnx_fp32", 8, 100, 5)])
        assert found is not None
        assert found.engine == chosen


def test_among_equals_the_smaller_batch() -> None:
    equal = [cell("onnx_fp32", batch, 100, 5) for batch in (32, 8, 16)]
    chosen = choose(CANDIDATES, equal)
    assert chosen is not None
    assert chosen.batch == 8


def found_in(folder: Path, manifest: Manifest, limit: float | None = None) -> Benchmark:
    return Benchmark(
        artifact=str(folder),
        name=manifest.name,
        fingerprint=manifest.fingerprint,
        processor="made up",
        settings=Settings((1, 8, 32), max_latency_ms=limit),
        samples="drawings",
        reference="torch",
        candidates=CANDIDATES,
        cells=CELLS,
        missing=(Missing("CUDA", "no <GPU>"),),
        choice=choose(CANDIDATES, CELLS, limit),
    )


def two_engines(manifest: Manifest, folder: Path) -> Manifest:
    first = manifest.engine.model_copy(update={"pictures_per_s": 3.0})
    others = [
        first.model_copy(update={"name": name, "precision": name[5:]}) for name in ("onnx_int8", "onnx_fp16")
    ]
    plan = first.model_copy(update={"name": "trt_fp16", "format": "tensorrt", "pictures_per_s": 77.0})
    changed = manifest.model_copy(update={"engines": (first, *others, plan)})
    changed.save(folder)
    return changed


def test_save_changes_speeds_and_default_engine_alone(exported_vit: Any, tmp_path: Path) -> None:
    before = two_engines(exported_vit.manifest, tmp_path)
    saved = save_speeds(tmp_path, found_in(tmp_path, before))
    after = load_manifest(tmp_path)
    assert (saved.batch, saved.default_engine) == (8, "onnx_int8")
    assert {engine.name: engine.pictures_per_s for engine in after.engines} == {
        "onnx_fp32": 100,
        "onnx_int8": 150,
        "onnx_fp16": 500,
        "trt_fp16": 77,
    }
    restored = [
        e.model_copy(update={"pictures_per_s": b.pictures_per_s})
        for e, b in zip(after.engines, before.engines, strict=True)
    ]
    assert after.default_engine == "onnx_int8"
    assert after.model_copy(update={"engines": tuple(restored), "default_engine": "onnx_fp32"}) == before
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_save_under_a_limit_keeps_the_chosen_batch(exported_vit: Any, tmp_path: Path) -> None:
    saved = save_speeds(tmp_path, found_in(tmp_path, two_engines(exported_vit.manifest, tmp_path), limit=20))
    assert (saved.batch, saved.default_engine) == (1, "onnx_fp32")
    assert load_manifest(tmp_path).engine_named("onnx_int8").pictures_per_s == 60


def test_save_refuses_another_artifact_texts_alone_and_no_choice(exported_vit: Any, tmp_path: Path) -> None:
    found = found_in(tmp_path, two_engines(exported_vit.manifest, tmp_path))
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(ModelError, match="exported anew"):
        save_speeds(tmp_path, replace(found, fingerprint="0" * 64))
    texts = tuple(replace(each, encoder="text") for each in CELLS)
    with pytest.raises(ModelError, match="--encoder image or both"):
        save_speeds(tmp_path, replace(found, cells=texts))
    with pytest.raises(VerdictError, match=r"nearest is onnx_fp32 at batch 1 with 20\.0 ms"):
        save_speeds(tmp_path, found_in(tmp_path, exported_vit.manifest, limit=5))
    with pytest.raises(VerdictError, match="none of the engines that ran passed"):
        require_choice(replace(found, choice=None, candidates=CANDIDATES[-1:]))
    other = replace(CANDIDATES[0], name="openvino_fp32", engine=None)
    with pytest.raises(VerdictError, match="openvino_fp32 passed, and no engine of this artifact is run that way"):
        require_choice(replace(found, choice=None, candidates=(other,)))
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_the_next_command_can_be_typed() -> None:
    choice = Choice("onnx_int8", "onnx_int8", 8, 1, 1)
    words = shlex.split(next_command("my shop's", choice))
    assert words == ["protoclip", "repository", "my shop's", "--engine", "onnx_int8", "--max-batch-size", "8"]


def test_the_plot_keeps_order_and_bounds() -> None:
    plot = make_plot("image", CELLS, [each.name for each in CANDIDATES], max_latency_ms=1000)
    assert [curve.name for curve in plot.curves] == [each.name for each in CANDIDATES]
    points = plot.curves[1].points
    assert [point.batch for point in points] == [1, 8, 32]
    assert points[0].x < points[1].x < points[2].x
    assert points[0].y > points[1].y > points[2].y
    for curve in plot.curves:
        for point in curve.points:
            assert plot.left < point.x < plot.right
            assert plot.top < point.y < plot.bottom
    assert plot.limit is not None
    assert points[2].x < plot.limit < plot.right
    assert [tick.text for tick in plot.x_ticks][:2] == ["1", "2"]
    assert len(make_plot("image", CELLS[:1], ["torch_fp32"]).curves[0].points) == 1


def test_the_page_shows_choice_failures_and_escapes(exported_vit: Any, tmp_path: Path) -> None:
    page = benchmark_page(found_in(tmp_path, exported_vit.manifest, limit=100))
    assert "--engine onnx_int8 --max-batch-size 8" in page
    assert "onnx_fp16: far off" in page
    assert "no &lt;GPU&gt;" in page
    assert page.count("<path") == len(CANDIDATES)
    assert "No engine that passed its gate" in benchmark_page(found_in(tmp_path, exported_vit.manifest, limit=1))


def test_json_is_strict_and_complete(exported_vit: Any, tmp_path: Path) -> None:
    found = json.loads(found_in(tmp_path, exported_vit.manifest).to_json())
    assert found["settings"]["threads"] == 1
    assert found["choice"]["engine"] == "onnx_int8"
    assert {"arm", "encoder", "batch", "items_per_s", "p50_ms", "p99_ms", "p99_is_maximum"} <= set(
        found["cells"][0]
    )
    assert len(found["cells"]) == len(CELLS)


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"batches": (0,)}, "--batch 0"),
        ({"batches": (5000,)}, "--batch 5000"),
        ({"rounds": 0}, "--rounds 0"),
        ({"threads": 0}, "--threads 0"),
        ({"seconds": 0.0}, "--seconds"),
        ({"max_latency_ms": float("nan")}, "--max-latency-ms"),
        ({"encoders": ()}, "nothing to measure"),
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        Settings(**wrong)


def test_what_is_not_here_is_named(exported_vit: Any, tmp_path: Path) -> None:
    engine = exported_vit.manifest.engine
    profiles, graphs = (BatchProfile(min=1, opt=8, max=32),), ("0" * 64, "1" * 64)
    build = EngineBuild(builder="tensorrt", builder_version="10.16", profiles=profiles, onnx_sha256=graphs)
    plan = engine.model_copy(update={"name": "tensorrt_fp16", "format": "tensorrt", "build": build})
    bf16 = engine.model_copy(update={"name": "onnx_bf16", "precision": "bf16"})
    manifest = exported_vit.manifest.model_copy(update={"engines": (engine, bf16, plan)})
    candidates, missing = discover(tmp_path, manifest, None)
    reasons = {line.name: line.reason for line in missing}
    assert [each.name for each in candidates if each.device == "cpu" and each.runtime == "onnxruntime"] == [
        "onnx_fp32"
    ]
    assert "no SOURCE" in reasons["torch"]
    assert "only imitates it" in reasons["onnx_bf16"]
    import torch

    if not torch.cuda.is_available():
        assert "NVIDIA GPU" in reasons["CUDA"]
        assert "NVIDIA GPU" in reasons["tensorrt_fp16"]


def test_judged_by_the_gate_of_the_precision() -> None:
    import numpy as np

    rows = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    expected = {"image": rows, "text": rows[::-1]}
    off = {"image": rows, "text": rows[::-1] + np.float32(1e-3)}
    assert judge(expected, expected, "fp32").passed
    assert not judge(expected, off, "fp32").passed
    assert judge(expected, off, "int8").passed
    assert judge(expected, off, "fp32").max_abs_difference == pytest.approx(1e-3, rel=1e-2)

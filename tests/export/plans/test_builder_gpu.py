"""What only a GPU can confirm: plans of the installed TensorRT, built here and run here, against ONNX Runtime.

`pytest tests/export/plans/test_builder_gpu.py` runs all of it. It takes `tensorrt` where that is installed, and
TensorRT-RTX otherwise. Weights are random: this proves graphs and engines; `protoclip verify` has the gate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from tensorrt_graphs import ENCODERS, Graphs, inputs

from export.artifact import export_artifact
from export.engine_plans import Plans, plan_name
from export.parity.compare import compare
from export.parity.samples import Samples
from export.plans.builder import PlanFacts, build_plan
from export.plans.options import BuildOptions, Profile
from export.plans.package import Builder, find_gpu, load_builder
from export.plans.runtime import TensorRtEncoder
from export.verify_artifact import verify_artifact
from protoclip.contract.errors import ConfigError, ModelError

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

OPTIONS = BuildOptions(profiles=(Profile(1, 1, 1), Profile(2, 8, 32)))
BATCH_SIZES = (1, 7, 8, 32)
LEAST_COSINE = {"fp16": 0.99999, "bf16": 0.9999, "int8_static": 0.99, "fp8": 0.99}
LEAST_CENTRED_COSINE = {"fp16": 0.999, "bf16": 0.99, "int8_static": 0.9, "fp8": 0.9}
MAX_DIFFERENCE = 1e-5


@pytest.fixture(scope="module")
def builder() -> Builder:
    return load_builder()


@pytest.fixture(scope="module")
def graphs(architectures: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    return Graphs(tmp_path_factory.mktemp("graphs"))


@pytest.mark.parametrize("precision", ["fp32", *LEAST_COSINE])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_engines_answer_as_onnx_runtime_does(
    encoder: str, precision: str, builder: Builder, graphs: Graphs, tmp_path: Path
) -> None:
    given = inputs(encoder, 64)
    expected = _reference(graphs.path(encoder, "fp32"), given)
    facts = build_plan(graphs.path(encoder, precision), tmp_path / "encoder.plan", OPTIONS, builder)
    assert facts.gpu == find_gpu()
    assert facts.driver is not None
    encode = TensorRtEncoder(tmp_path / "encoder.plan", builder)
    assert encode.profiles == OPTIONS.profiles
    for size in BATCH_SIZES:
        found = compare(expected, np.concatenate([encode(given[at : at + size]) for at in range(0, 64, size)]))
        assert found.finite
        if precision == "fp32":
            assert found.max_abs_difference is not None
            assert found.max_abs_difference <= MAX_DIFFERENCE
            continue
        assert found.mean_cosine is not None
        assert found.mean_cosine >= LEAST_COSINE[precision]
        # A random ResNet gives all pictures nearly one vector: around its mean there is noise alone.
        if encoder != "resnet":
            assert found.mean_centred_cosine is not None
            assert found.mean_centred_cosine >= LEAST_CENTRED_COSINE[precision]


def test_wrong_batches_are_one_clear_line_and_the_next_one_runs(
    builder: Builder, graphs: Graphs, tmp_path: Path
) -> None:
    encode = _encoder(graphs.path("vit", "fp32"), tmp_path, builder)
    with pytest.raises(ConfigError, match="batch of 33 fits none of the profiles"):
        encode(inputs("vit", 33))
    with pytest.raises(ConfigError, match="batch of 0 fits none of the profiles"):
        encode(inputs("vit", 0))
    with pytest.raises(ModelError, match="takes uint8"):
        encode(inputs("vit", 2).astype(np.float32))
    assert encode(inputs("vit", 2)).shape == (2, 24)


def test_timings_are_kept_for_the_next_build(builder: Builder, graphs: Graphs, tmp_path: Path) -> None:
    if builder.name == "tensorrt_rtx":
        pytest.skip("TensorRT-RTX keeps no timings")
    options = BuildOptions(timing_cache=tmp_path / "timings")
    first = _build(graphs.path("vit", "fp32"), tmp_path, builder, options)
    [file] = (tmp_path / "timings").iterdir()
    assert file.stat().st_size > 0
    second = _build(graphs.path("vit", "fp32"), tmp_path, builder, options)
    assert second.seconds < first.seconds
    file.write_bytes(b"no timings")
    with pytest.raises(ConfigError, match="not a timing cache of this GPU and builder"):
        _build(graphs.path("vit", "fp32"), tmp_path, builder, options)


def test_a_plan_for_newer_gpus_too_answers_the_same(builder: Builder, graphs: Graphs, tmp_path: Path) -> None:
    if builder.name == "tensorrt_rtx":
        pytest.skip("TensorRT-RTX has compute capabilities instead")
    options = BuildOptions(profiles=OPTIONS.profiles, hardware_compatibility="ampere_plus")
    encode = _encoder(graphs.path("vit", "fp32"), tmp_path, builder, options)
    expected = _reference(graphs.path("vit", "fp32"), inputs("vit", 32))
    np.testing.assert_allclose(encode(inputs("vit", 32)), expected, atol=MAX_DIFFERENCE)


def test_settings_are_taken(builder: Builder, graphs: Graphs, tmp_path: Path) -> None:
    options = BuildOptions(workspace_bytes=1 << 28, level=0, tf32=True)
    encode = _encoder(graphs.path("text", "fp32"), tmp_path, builder, options)
    assert encode.profiles == options.profiles
    assert np.isfinite(encode(inputs("text", 4))).all()


def test_a_broken_plan_is_one_clear_line(builder: Builder, tmp_path: Path) -> None:
    (tmp_path / "image.plan").write_bytes(b"no plan")
    with pytest.raises(ModelError, match="runs on the version and the GPU that it was built for: build it here"):
        TensorRtEncoder(tmp_path / "image.plan", builder)


def test_an_export_with_plans_passes_its_gate(
    exported_vit: Any, samples: Samples, builder: Builder, tmp_path: Path
) -> None:
    plans = Plans(builder, OPTIONS, ("fp32", "fp16"))
    out, clip = tmp_path / "artifact", exported_vit.clip
    manifest = export_artifact(clip, out, "tiny", samples, plans=plans, random_weights=True)
    for precision in plans.precisions:
        engine = manifest.engine_named(plan_name(builder.name, precision))
        assert engine.verdict.passed
        assert engine.pictures_per_s is not None
        assert engine.build is not None
        assert engine.build.gpu is not None
    assert verify_artifact(out, clip, samples, random_weights=True).passed


def _reference(onnx: Path, given: NDArray[Any]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: given})[0]
    return answer


def _build(onnx: Path, folder: Path, builder: Builder, options: BuildOptions = OPTIONS) -> PlanFacts:
    return build_plan(onnx, folder / "encoder.plan", options, builder)


def _encoder(onnx: Path, folder: Path, builder: Builder, options: BuildOptions = OPTIONS) -> TensorRtEncoder:
    _build(onnx, folder, builder, options)
    return TensorRtEncoder(folder / "encoder.plan", builder)

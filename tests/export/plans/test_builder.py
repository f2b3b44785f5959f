"""Real plans, built by TensorRT-RTX without a GPU, and what goes wrong on the way to them.

That the builder takes the graphs is seen here; what the plans compute needs a GPU: `test_to_tensorrt_gpu.py`.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorrt_graphs import ENCODERS, Graphs

from export.plans.builder import PlanFacts, build_plan
from export.plans.network import TensorFacts
from export.plans.options import BuildOptions, Profile
from export.plans.package import Builder, load_builder
from protoclip.contract.errors import ConfigError, ModelError, ProtoclipError
from protoclip.contract.files import sha256_file

PROFILES = (Profile(1, 1, 1), Profile(2, 8, 32))
OPTIONS = BuildOptions(profiles=PROFILES, compute_capabilities=("8.9",))
PRODUCTS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8_static": "float32"}
SIGNATURES = {
    "vit": (TensorFacts("pixels", "uint8", (-1, 32, 32, 3)), TensorFacts("image_embedding", "float32", (-1, 24))),
    "resnet": (
        TensorFacts("pixels", "uint8", (-1, 32, 32, 3)),
        TensorFacts("image_embedding", "float32", (-1, 24)),
    ),
    "text": (TensorFacts("tokens", "int32", (-1, 16)), TensorFacts("text_embedding", "float32", (-1, 24))),
}


@pytest.fixture(scope="module")
def rtx() -> Builder:
    """Fails where the package is missing: without it nothing here would be tested."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("TensorRT-RTX comes for Linux on x86-64 only")
    return load_builder("tensorrt_rtx")


@pytest.fixture(scope="module")
def graphs(architectures: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    return Graphs(tmp_path_factory.mktemp("graphs"))


@pytest.mark.parametrize("precision", PRODUCTS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_builds_in_every_precision(
    encoder: str, precision: str, rtx: Builder, graphs: Graphs, tmp_path: Path
) -> None:
    onnx, plan, spy = graphs.path(encoder, precision), tmp_path / "encoder.plan", Spy(rtx.api)
    facts = build_plan(onnx, plan, OPTIONS, replace(rtx, api=spy))
    taken, given = SIGNATURES[encoder]
    assert (facts.network.inputs, facts.network.outputs) == ((taken,), (given,))
    _check_layers(facts, encoder, precision)
    assert spy.shapes(taken.name) == [
        [(size, *taken.shape[1:]) for size in (profile.min, profile.opt, profile.max)] for profile in PROFILES
    ]
    assert plan.read_bytes()[:4] == b"vtrt"  # TensorRT's own beginning, and nothing of ours before it
    assert (facts.num_bytes, facts.sha256) == (plan.stat().st_size, sha256_file(plan))
    assert facts.onnx_sha256 == sha256_file(onnx)
    assert (facts.builder, facts.builder_version) == ("tensorrt_rtx", rtx.version)
    assert (facts.profiles, facts.compute_capabilities) == (PROFILES, ("8.9",))


def test_large_weights_beside_the_file_are_found(rtx: Builder, graphs: Graphs, tmp_path: Path) -> None:
    import onnx

    external = tmp_path / "image.onnx"
    model = onnx.load(graphs.path("vit", "fp32"))
    onnx.save(model, external, save_as_external_data=True, location="image.onnx.data", size_threshold=0)
    assert (tmp_path / "image.onnx.data").stat().st_size > external.stat().st_size / 2
    facts = _build(external, rtx)
    assert (
        facts.network.layers == _build(graphs.path("vit", "fp32"), rtx, tmp_path / "embedded.plan").network.layers
    )
    (tmp_path / "image.onnx.data").unlink()
    with pytest.raises(ModelError, match=r"image\.onnx: its weights can't be read: their file belongs beside it"):
        _build(external, rtx)


def test_the_builder_tells_how_far_it_is_and_says_nothing_else(
    rtx: Builder, graphs: Graphs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    onnx, told = graphs.path("vit", "fp32"), list[tuple[str, int, int]]()
    capfd.readouterr()
    build_plan(onnx, tmp_path / "image.plan", OPTIONS, rtx, lambda *step: told.append(step))
    assert capfd.readouterr() == ("", "")
    whats = {what for what, _, _ in told}
    assert {"image.plan: Building engine", "image.plan: Computing profile costs"} <= whats
    assert all(0 <= done <= total for _, done, total in told)
    assert told[-1][1] == told[-1][2]


def test_an_interruption_stops_the_build_and_leaves_nothing(
    rtx: Builder, graphs: Graphs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan, after = tmp_path / "image.plan", list[str]()

    def interrupted(what: str, done: int, total: int) -> None:
        after.append(what)
        if "Optimizing" in what:
            raise KeyboardInterrupt

    plan.write_bytes(b"the plan before")
    with pytest.raises(KeyboardInterrupt):
        build_plan(graphs.path("vit", "fp32"), plan, OPTIONS, rtx, interrupted)
    assert "Optimizing" in after[-1]
    assert list(tmp_path.iterdir()) == [plan]
    assert plan.read_bytes() == b"the plan before"
    assert capfd.readouterr().err == ""


def test_a_full_disk_is_one_clear_line(
    rtx: Builder, graphs: Graphs, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    onnx = graphs.path("vit", "fp32")
    plan = tmp_path / "image.plan"
    with pytest.raises(ProtoclipError, match=r"image\.plan: can't be written: File too large"), full_disk(1 << 20):
        build_plan(onnx, plan, OPTIONS, rtx)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", b"this is no model \xff\xfe", b"\x89PNG\r\n" + bytes(100), "cut off"],
    ids=lambda c: str(c[:7]),
)
def test_a_file_that_is_no_model_is_one_clear_line(
    content: bytes | str, rtx: Builder, graphs: Graphs, tmp_path: Path
) -> None:
    whole = graphs.path("vit", "fp32").read_bytes()
    (tmp_path / "image.onnx").write_bytes(whole[:5000] if isinstance(content, str) else content)
    with pytest.raises(ModelError, match=r"image\.onnx: not an ONNX model.*: export the model again"):
        _build(tmp_path / "image.onnx", rtx)
    assert not list(tmp_path.glob("*.plan"))


def test_no_file_is_one_clear_line(rtx: Builder, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"image\.onnx: no such file: export the model to ONNX first"):
        _build(tmp_path / "image.onnx", rtx)


def test_unsupported_operators_are_all_named(rtx: Builder, graphs: Graphs, tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    dynamic = tmp_path / "image.onnx"
    quantize_dynamic(graphs.path("vit", "fp32"), dynamic, op_types_to_quantize=["MatMul"])
    told: list[Any] = []
    with pytest.raises(ModelError, match=r"DynamicQuantizeLinear \(\d+ nodes.*, MatMulInteger \(\d") as caught:
        build_plan(dynamic, tmp_path / "image.plan", OPTIONS, rtx, lambda *step: told.append(step))
    assert not told
    assert "\n" not in str(caught.value)
    assert "serve the ONNX file" in str(caught.value)


def test_a_data_type_that_is_refused_says_why(rtx: Builder, tmp_path: Path) -> None:
    from onnx import TensorProto

    file = _relu(tmp_path, TensorProto.UINT8, ["batch", 4])
    with pytest.raises(ModelError, match=r"does not support Relu \(the_node\): .*input type of UINT8: change"):
        _build(file, rtx)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([4, 4], r"profile 1:1:1: the batch of image\.onnx is fixed at 4: use 4:4:4, or export"),
        (["batch", "width"], r"image\.onnx: input x is \[-1, -1\]: only the batch may vary"),
    ],
)
def test_a_profile_that_does_not_fit_the_model_is_one_clear_line(
    shape: list[Any], message: str, rtx: Builder, tmp_path: Path
) -> None:
    from onnx import TensorProto

    with pytest.raises(ProtoclipError, match=message):
        _build(_relu(tmp_path, TensorProto.FLOAT, shape), rtx)


def test_a_fixed_batch_builds_with_its_own_profile(rtx: Builder, tmp_path: Path) -> None:
    from onnx import TensorProto

    file = _relu(tmp_path, TensorProto.FLOAT, [4, 4])
    facts = build_plan(file, tmp_path / "image.plan", replace(OPTIONS, profiles=(Profile(4, 4, 4),)), rtx)
    assert facts.network.layers == {"ACTIVATION": {"float32": 1}}


def test_a_gpu_that_is_too_old_for_the_graph_says_why(rtx: Builder, graphs: Graphs, tmp_path: Path) -> None:
    turing = replace(OPTIONS, compute_capabilities=("7.5",))
    with pytest.raises(ModelError, match=r"can't build it: .*SM75.*FP32 GEMM is not supported") as caught:
        build_plan(graphs.path("vit", "fp32"), tmp_path / "image.plan", turing, rtx)
    assert "/_src/" not in str(caught.value)


def test_what_rtx_lacks_is_refused_before_anything_is_read(rtx: Builder, tmp_path: Path) -> None:
    for options in (BuildOptions(timing_cache=tmp_path), BuildOptions(hardware_compatibility="ampere_plus")):
        with pytest.raises(ConfigError, match=r"tensorrt_rtx .*leave it out"):
            build_plan(tmp_path / "no.onnx", tmp_path / "no.plan", options, rtx)


def test_the_plan_moves_with_its_folder(rtx: Builder, graphs: Graphs, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    shutil.copy(graphs.path("text", "fp32"), folder / "text.onnx")
    facts = _build(folder / "text.onnx", rtx)
    assert str(tmp_path).encode() not in (folder / "text.plan").read_bytes()
    assert facts.gpu is None
    assert facts.seconds > 0


class Spy:
    """The package, except that its builder keeps the profiles that it made."""

    def __init__(self, api: Any) -> None:
        self._api, self._profiles = api, list[Any]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    def Builder(self, log: Any) -> Any:
        session, profiles = self._api.Builder(log), self._profiles

        class Session:
            def __getattr__(self, name: str) -> Any:
                return getattr(session, name)

            def create_optimization_profile(self) -> Any:
                profiles.append(session.create_optimization_profile())
                return profiles[-1]

        return Session()

    def shapes(self, tensor: str) -> list[list[tuple[int, ...]]]:
        return [[tuple(shape) for shape in profile.get_shape(tensor)] for profile in self._profiles]


def _check_layers(facts: PlanFacts, encoder: str, precision: str) -> None:
    layers = facts.network.layers
    products = ["MATRIX_MULTIPLY", *(["CONVOLUTION"] if encoder != "text" else [])]
    assert [set(layers[kind]) for kind in products] == [{PRODUCTS[precision]}] * len(products)
    assert set(layers["SOFTMAX"]) == {"float32"}
    assert set(layers.get("NORMALIZATION", {"float32": 0})) == {"float32"}
    if precision == "int8_static":
        assert set(layers["QUANTIZE"]) == {"int8"}
        assert layers["QUANTIZE"]["int8"] >= sum(layers["DEQUANTIZE"].values()) / 2
    else:
        assert "QUANTIZE" not in layers


def _build(onnx: Path, builder: Builder, plan: Path | None = None) -> PlanFacts:
    return build_plan(onnx, plan or onnx.with_suffix(".plan"), OPTIONS, builder)


def _relu(folder: Path, dtype: int, shape: list[Any]) -> Path:
    from onnx import helper

    node = helper.make_node("Relu", ["x"], ["y"], name="the_node")
    taken, given = (helper.make_tensor_value_info(name, dtype, shape) for name in ("x", "y"))
    model = helper.make_model(
        helper.make_graph([node], "relu", [taken], [given]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    path = folder / "image.onnx"
    path.write_bytes(model.SerializeToString())
    return path

"""The builder and the runtime use only names that the bindings of every supported version have.

It checks names alone, through `tensorrt_names`. The real builds are in `test_to_tensorrt.py`, and what a GPU
has to confirm in `test_to_tensorrt_gpu.py`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tensorrt_names import NAMES, PROFILES, Api, building_api, package_of

from export.plans.builder import PlanFacts, build_plan
from export.plans.options import BuildOptions
from export.plans.package import Gpu, as_builder
from export.plans.runtime import TensorRtEncoder, open_tensorrt_engine
from protoclip.contract.errors import ConfigError, ModelError

TENSORRT = [version for version in NAMES if version.startswith("tensorrt ")]


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    path = tmp_path / "image.onnx"
    path.write_bytes(b"read by nobody: the stand-in parses nothing")
    return path


@pytest.mark.parametrize("version", TENSORRT)
def test_a_build_from_end_to_end(
    version: str, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.plans.builder.find_gpu", lambda: None)
    api = building_api(version)
    options = BuildOptions(
        profiles=PROFILES,
        workspace_bytes=1 << 30,
        level=5,
        timing_cache=tmp_path / "timings",
        hardware_compatibility="ampere_plus",
    )
    told: list[tuple[str, int, int]] = []
    facts = _build(api, onnx_file, options, lambda *step: told.append(step))
    assert (tmp_path / "image.plan").read_bytes() == b"a plan"
    assert facts.builder_version == version.split()[1]
    assert facts.network.inputs[0].shape == (-1, 32, 32, 3)
    assert told == [("image.plan: Timing", 0, 2), ("image.plan: Timing", 1, 2), ("image.plan: Timing", 2, 2)]
    settings = {name.split(".")[1]: value for name, value in api.set}
    assert settings["builder_optimization_level"] == 5
    assert settings["hardware_compatibility_level"].name == "AMPERE_PLUS"
    calls = [(name.split(".")[1], arguments) for name, arguments in api.calls]
    assert ("create_network", (1 << 0,)) in calls
    assert [arguments[1:] for name, arguments in calls if name == "set_shape"] == [
        tuple((size, 32, 32, 3) for size in (profile.min, profile.opt, profile.max)) for profile in PROFILES
    ]
    [(limited, limit)] = [arguments for name, arguments in calls if name == "set_memory_pool_limit"]
    assert (limited.name, limit) == ("WORKSPACE", 1 << 30)
    [(cleared,)] = [arguments for name, arguments in calls if name == "clear_flag"]
    assert cleared.name == "TF32"


@pytest.mark.parametrize("version", TENSORRT)
def test_the_timing_cache_is_kept_per_gpu_and_version(version: str, onnx_file: Path, tmp_path: Path) -> None:
    api, folder = building_api(version), tmp_path / "timings"
    _build(api, onnx_file, BuildOptions(timing_cache=folder))
    [file] = folder.iterdir()
    assert file.name == f"tensorrt_{version.split()[1]}_no_gpu.timing"
    assert file.read_bytes() == b"timings"
    _build(api, onnx_file, BuildOptions(timing_cache=folder))
    read = [arguments for name, arguments in api.calls if name == "IBuilderConfig.create_timing_cache"]
    assert read == [(b"",), (b"timings",)]
    api.answers["IBuilderConfig.set_timing_cache"] = lambda *_: False
    with pytest.raises(ConfigError, match="not a timing cache of this GPU and builder: remove the file"):
        _build(api, onnx_file, BuildOptions(timing_cache=folder))


@pytest.mark.parametrize("version", TENSORRT)
def test_what_a_parser_refuses_is_named(version: str, onnx_file: Path) -> None:
    api = building_api(version)
    api.answers["OnnxParser.parse_from_file"] = lambda path: False
    with pytest.raises(ModelError, match=r"does not support Det \(the node\): no such layer: change the model"):
        _build(api, onnx_file, BuildOptions())


@pytest.mark.parametrize("version", TENSORRT)
def test_a_machine_without_a_gpu_is_one_clear_line(version: str, onnx_file: Path) -> None:
    api = building_api(version)

    def no_builder(log: Any) -> Any:
        log.log("ERROR", "no CUDA driver")
        raise TypeError("factory function returned nullptr")

    api.__dict__["Builder"] = no_builder
    with pytest.raises(ConfigError, match="can't start: no CUDA driver: it needs an NVIDIA GPU with its driver"):
        _build(api, onnx_file, BuildOptions())


@pytest.mark.parametrize("version", TENSORRT)
def test_a_build_that_fails_says_why(version: str, onnx_file: Path) -> None:
    api = building_api(version)
    api.answers["Builder.build_serialized_network"] = lambda *_: None
    with pytest.raises(ModelError, match="can't build it: it does not say why"):
        _build(api, onnx_file, BuildOptions())


@pytest.mark.parametrize("version", NAMES)
def test_a_plan_runs(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_gpu(monkeypatch)
    api = building_api(version)
    plan = tmp_path / "image.plan"
    plan.write_bytes(b"a plan")
    encode = TensorRtEncoder(plan, as_builder(*package_of(api)))
    assert encode.profiles == PROFILES
    for size, place in ((1, 0), (32, 1), (2, 1)):
        api.calls.clear()
        api.answers["IExecutionContext.get_tensor_shape"] = lambda name, size=size: (size, 24)
        answer = encode(np.zeros((size, 32, 32, 3), dtype=np.uint8))
        assert (answer.shape, answer.dtype) == ((size, 24), np.float32)
        names = [name.split(".")[1] for name, _ in api.calls]
        assert names[-5:] == [
            "set_input_shape",
            "get_tensor_shape",
            "set_tensor_address",
            "set_tensor_address",
            "execute_async_v3",
        ]
        chosen = [arguments[0] for name, arguments in api.calls if name.endswith("profile_async")]
        assert chosen == ([place] if size != 2 else [])
    with pytest.raises(ConfigError, match="batch of 33 fits none of the profiles 1:1:1, 2:8:32"):
        encode(np.zeros((33, 32, 32, 3), dtype=np.uint8))
    with pytest.raises(ModelError, match=r"takes uint8 \[B, 32, 32, 3\], got float32 \[1, 32, 32, 3\]"):
        encode(np.zeros((1, 32, 32, 3), dtype=np.float32))
    api.answers["IExecutionContext.execute_async_v3"] = lambda stream: False
    with pytest.raises(ModelError, match="fails on a batch of 2"):
        encode(np.zeros((2, 32, 32, 3), dtype=np.uint8))


def test_both_plans_of_an_engine_open_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_gpu(monkeypatch)
    monkeypatch.setattr("export.plans.runtime.find_gpu", lambda: Gpu("A GPU of 2026", "10.0"))
    for name in ("image", "text"):
        (tmp_path / f"{name}.plan").write_bytes(b"a plan")
    builder = as_builder(*package_of(building_api("tensorrt 11.4")))
    engine = open_tensorrt_engine(tmp_path / "image.plan", tmp_path / "text.plan", builder)
    assert engine.backend == "tensorrt 11.4 on A GPU of 2026"
    assert isinstance(engine.image, TensorRtEncoder)
    assert engine.image is not engine.text


def test_a_plan_of_another_version_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_gpu(monkeypatch)
    api = building_api(TENSORRT[0])
    api.answers["Runtime.deserialize_cuda_engine"] = lambda plan: None
    (tmp_path / "image.plan").write_bytes(b"a plan")
    with pytest.raises(ModelError, match="runs on the version and the GPU that it was built for: build it here"):
        TensorRtEncoder(tmp_path / "image.plan", as_builder(*package_of(api)))


@pytest.mark.parametrize(("version", "missing"), [("9.3.0", "10.13"), ("10.12.1", "10.13"), ("8.6", "10.13")])
def test_an_old_version_is_refused(version: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=rf"tensorrt {version} is too old, {missing} is needed: pip install"):
        as_builder("tensorrt", SimpleNamespace(__version__=version))


@pytest.mark.parametrize("version", TENSORRT)
def test_names_that_a_version_lacks_are_errors(version: str) -> None:
    api = building_api(version)
    with pytest.raises(AttributeError, match="IBuilderConfig has no num_compute_capabilities"):
        api.object("IBuilderConfig").num_compute_capabilities = 1
    with pytest.raises(AttributeError, match="BuilderFlag has no FP16"):
        _ = api.BuilderFlag.FP16
    with pytest.raises(AttributeError, match="has no ComputeCapability"):
        _ = api.ComputeCapability


def test_the_listing_is_true_of_the_package_that_is_installed() -> None:
    import tensorrt_rtx

    for kind, names in NAMES["tensorrt_rtx 1.7"].items():
        for name in names:
            assert hasattr(getattr(tensorrt_rtx, kind), name), f"{kind}.{name}"


def _build(api: Api, onnx_file: Path, options: BuildOptions, progress: Any = lambda *step: None) -> PlanFacts:
    return build_plan(onnx_file, onnx_file.with_suffix(".plan"), options, as_builder(*package_of(api)), progress)


def _pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors stay in the main memory: nothing reads them."""
    stream = SimpleNamespace(cuda_stream=7, wait_stream=lambda other: None, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda chosen: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)

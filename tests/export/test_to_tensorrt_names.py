"""The builder and the runtime use only names that the bindings of every supported version have.

A stand-in takes the place of the package: its objects have the names that were read off the real bindings
of 10.13, 10.16, 11.4 and RTX 1.7 (`data/tensorrt_names.json`, of those that we use), and raise
AttributeError for any other. It checks names alone: no signature, no behaviour. The real builds are in
`test_to_tensorrt.py`, and what a GPU has to confirm in `test_to_tensorrt_gpu.py`.
"""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from export.tensorrt_options import BuildOptions, Profile
from export.tensorrt_package import Gpu, as_builder
from export.tensorrt_runtime import TensorRtEncoder, open_tensorrt_engine
from export.to_tensorrt import PlanFacts, build_plan
from protoclip.contract.errors import ConfigError, ModelError

NAMES: dict[str, dict[str, list[str]]] = json.loads(
    (Path(__file__).parent / "data" / "tensorrt_names.json").read_text()
)
TENSORRT = [version for version in NAMES if version.startswith("tensorrt ")]
PROFILES = (Profile(1, 1, 1), Profile(2, 8, 32))
_ENUMS = {
    "BuilderFlag",
    "ComputeCapability",
    "DataType",
    "ErrorCode",
    "HardwareCompatibilityLevel",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "TensorIOMode",
}


class Api:
    """One version of the package; `set` and `calls` record what was set and called, as "Class.name"."""

    def __init__(self, version: str) -> None:
        self.__version__ = version.split()[1]
        self.names = NAMES[version]
        self.set: list[tuple[str, Any]] = []
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.answers: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in self.names:
            raise AttributeError(f"{self.__version__} has no {name}")
        if name in _ENUMS:
            return _Enum(self, name)
        if name in ("ILogger", "IProgressMonitor"):
            return type(name, (), {member: member for member in self.names[name]})
        return lambda *arguments: self.object(name)

    def object(self, kind: str) -> Recorded:
        return Recorded(self, kind)

    def check(self, kind: str, name: str) -> str:
        if name not in self.names[kind]:
            raise AttributeError(f"{self.__version__}: {kind} has no {name}")
        return f"{kind}.{name}"


class _Enum:
    def __init__(self, api: Api, kind: str) -> None:
        self._api, self._kind = api, kind
        self._members = enum.IntEnum(kind, api.names[kind], start=0)  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        self._api.check(self._kind, name)
        return self._members[name]

    def __dir__(self) -> list[str]:
        return self._api.names[self._kind]


class Recorded:
    """An object of class `kind`: methods answer from `api.answers`, or with None."""

    def __init__(self, api: Api, kind: str) -> None:
        object.__setattr__(self, "_place", (api, kind))

    def __getattr__(self, name: str) -> Any:
        api, kind = self._place
        if name == "name":  # every tensor, layer and enum member has it; the listing leaves it out
            return f"the {kind}"
        answer = api.answers.get(api.check(kind, name))
        return answer if not callable(answer) and answer is not None else _method(api, f"{kind}.{name}", answer)

    def __setattr__(self, name: str, value: Any) -> None:
        api, kind = self._place
        api.set.append((api.check(kind, name), value))


def _method(api: Api, name: str, answer: Callable[..., Any] | None) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        api.calls.append((name, arguments))
        return None if answer is None else answer(*arguments)

    return call


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    path = tmp_path / "image.onnx"
    path.write_bytes(b"read by nobody: the stand-in parses nothing")
    return path


@pytest.mark.parametrize("version", TENSORRT)
def test_a_build_from_end_to_end(
    version: str, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.to_tensorrt.find_gpu", lambda: None)
    api = _api(version)
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
    api, folder = _api(version), tmp_path / "timings"
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
    api = _api(version)
    api.answers["OnnxParser.parse_from_file"] = lambda path: False
    with pytest.raises(ModelError, match=r"does not support Det \(the node\): no such layer: change the model"):
        _build(api, onnx_file, BuildOptions())


@pytest.mark.parametrize("version", TENSORRT)
def test_a_machine_without_a_gpu_is_one_clear_line(version: str, onnx_file: Path) -> None:
    api = _api(version)

    def no_builder(log: Any) -> Any:
        log.log("ERROR", "no CUDA driver")
        raise TypeError("factory function returned nullptr")

    api.__dict__["Builder"] = no_builder
    with pytest.raises(ConfigError, match="can't start: no CUDA driver: it needs an NVIDIA GPU with its driver"):
        _build(api, onnx_file, BuildOptions())


@pytest.mark.parametrize("version", TENSORRT)
def test_a_build_that_fails_says_why(version: str, onnx_file: Path) -> None:
    api = _api(version)
    api.answers["Builder.build_serialized_network"] = lambda *_: None
    with pytest.raises(ModelError, match="can't build it: it does not say why"):
        _build(api, onnx_file, BuildOptions())


@pytest.mark.parametrize("version", NAMES)
def test_a_plan_runs(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_gpu(monkeypatch)
    api = _api(version)
    plan = tmp_path / "image.plan"
    plan.write_bytes(b"a plan")
    encode = TensorRtEncoder(plan, as_builder(*_package(api)))
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
    monkeypatch.setattr("export.tensorrt_runtime.find_gpu", lambda: Gpu("A GPU of 2026", "10.0"))
    for name in ("image", "text"):
        (tmp_path / f"{name}.plan").write_bytes(b"a plan")
    builder = as_builder(*_package(_api("tensorrt 11.4")))
    engine = open_tensorrt_engine(tmp_path / "image.plan", tmp_path / "text.plan", builder)
    assert engine.backend == "tensorrt 11.4 on A GPU of 2026"
    assert isinstance(engine.image, TensorRtEncoder)
    assert engine.image is not engine.text


def test_a_plan_of_another_version_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_gpu(monkeypatch)
    api = _api(TENSORRT[0])
    api.answers["Runtime.deserialize_cuda_engine"] = lambda plan: None
    (tmp_path / "image.plan").write_bytes(b"a plan")
    with pytest.raises(ModelError, match="runs on the version and the GPU that it was built for: build it here"):
        TensorRtEncoder(tmp_path / "image.plan", as_builder(*_package(api)))


@pytest.mark.parametrize(("version", "missing"), [("9.3.0", "10.13"), ("10.12.1", "10.13"), ("8.6", "10.13")])
def test_an_old_version_is_refused(version: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=rf"tensorrt {version} is too old, {missing} is needed: pip install"):
        as_builder("tensorrt", SimpleNamespace(__version__=version))


@pytest.mark.parametrize("version", TENSORRT)
def test_names_that_a_version_lacks_are_errors(version: str) -> None:
    api = _api(version)
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


def _api(version: str) -> Api:
    api = Api(version)
    new = api.object
    api.answers = {
        "Builder.create_network": lambda flags: new("INetworkDefinition"),
        "Builder.create_builder_config": lambda: new("IBuilderConfig"),
        "Builder.create_optimization_profile": lambda: new("IOptimizationProfile"),
        "Builder.build_serialized_network": lambda network, config: _run_monitor(api),
        "OnnxParser.parse_from_file": lambda path: True,
        "OnnxParser.num_errors": 1,
        "OnnxParser.get_error": lambda place: new("ParserError"),
        "ParserError.code": lambda: None,
        "ParserError.desc": lambda: "no such layer",
        "ParserError.node_name": lambda: "the node",
        "ParserError.node_operator": lambda: "Det",
        "INetworkDefinition.num_inputs": 1,
        "INetworkDefinition.num_outputs": 1,
        "INetworkDefinition.num_layers": 1,
        "INetworkDefinition.get_input": lambda place: new("ITensor"),
        "INetworkDefinition.get_output": lambda place: new("ITensor"),
        "INetworkDefinition.get_layer": lambda place: new("ILayer"),
        "ILayer.get_output": lambda place: new("ITensor"),
        "ILayer.type": api.LayerType.ELEMENTWISE,
        "ITensor.dtype": api.DataType.UINT8,
        "ITensor.shape": (-1, 32, 32, 3),
        "IBuilderConfig.add_optimization_profile": lambda profile: 0,
        "IBuilderConfig.create_timing_cache": lambda known: new("ITimingCache"),
        "IBuilderConfig.set_timing_cache": lambda cache, ignore_mismatch: True,
        "IBuilderConfig.get_timing_cache": lambda: new("ITimingCache"),
        "ITimingCache.serialize": lambda: b"timings",
        **_running(api),
    }
    return api


def _running(api: Api) -> Mapping[str, Any]:
    new, mode = api.object, api.TensorIOMode
    shapes = {"pixels": (-1, 32, 32, 3), "image_embedding": (-1, 24)}
    profiles = [[(size, 32, 32, 3) for size in (p.min, p.opt, p.max)] for p in PROFILES]
    return {
        "Runtime.deserialize_cuda_engine": lambda plan: new("ICudaEngine"),
        "ICudaEngine.create_execution_context": lambda: new("IExecutionContext"),
        "ICudaEngine.num_io_tensors": 2,
        "ICudaEngine.num_optimization_profiles": 2,
        "ICudaEngine.get_tensor_name": lambda place: list(shapes)[place],
        "ICudaEngine.get_tensor_shape": shapes.__getitem__,
        "ICudaEngine.get_tensor_mode": lambda name: mode.INPUT if name == "pixels" else mode.OUTPUT,
        "ICudaEngine.get_tensor_dtype": lambda name: (
            api.DataType.UINT8 if name == "pixels" else api.DataType.FLOAT
        ),
        "ICudaEngine.get_tensor_profile_shape": lambda name, place: profiles[place],
        "IExecutionContext.set_optimization_profile_async": lambda place, stream: True,
        "IExecutionContext.set_input_shape": lambda name, shape: True,
        "IExecutionContext.execute_async_v3": lambda stream: True,
    }


def _run_monitor(api: Api) -> bytes | None:
    monitor = dict(api.set)["IBuilderConfig.progress_monitor"]
    overridden = {name for name in vars(type(monitor)) if not name.startswith("_")}
    assert overridden == set(api.names["IProgressMonitor"])
    monitor.phase_start("Timing", None, 2)
    going_on = monitor.step_complete("Timing", 0)
    monitor.phase_finish("Timing")
    return b"a plan" if going_on else None


def _build(api: Api, onnx_file: Path, options: BuildOptions, progress: Any = lambda *step: None) -> PlanFacts:
    return build_plan(onnx_file, onnx_file.with_suffix(".plan"), options, as_builder(*_package(api)), progress)


def _package(api: Api) -> Any:
    return ("tensorrt_rtx" if "ComputeCapability" in api.names else "tensorrt", api)


def _pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors stay in the main memory: nothing reads them."""
    stream = SimpleNamespace(cuda_stream=7, wait_stream=lambda other: None, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda chosen: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)

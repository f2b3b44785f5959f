"""A stand-in for the package tensorrt that has exactly the names of one of its versions.

Its objects have the names that were read off the real bindings of 10.13, 10.16, 11.4 and RTX 1.7
(`tensorrt_names.json`, of those that we use), and raise AttributeError for any other. No signature, no behaviour.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from export.plans.options import Profile

NAMES: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_suffix(".json").read_text())
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


def building_api(version: str) -> Api:
    """The package at `version`, with answers that take one build and one run through to their ends."""
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


def package_of(api: Api) -> Any:
    """Its name, and the stand-in: what `as_builder` takes."""
    return ("tensorrt_rtx" if "ComputeCapability" in api.names else "tensorrt", api)

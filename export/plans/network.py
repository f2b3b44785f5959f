"""Parses an ONNX file into a strongly typed TensorRT network and describes it; errors are one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ConfigError, ModelError

from .callbacks import one_line
from .options import Profile
from .package import Builder

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "FP8": "float8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class TensorFacts:
    """An input or output; a dimension of -1 is dynamic."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class NetworkFacts:
    """What was parsed.

    Attributes:
        layers: number of layers by type and by the data type of their first output, such as
            `{"MATRIX_MULTIPLY": {"float16": 7}}`.
    """

    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    layers: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class ParsedNetwork:
    """A network with the parser that owns its weights: it must live until the plan is built."""

    network: Any
    parser: Any


def parse_network(builder: Builder, session: Any, log: Any, onnx_path: Path) -> ParsedNetwork:
    """Parses `onnx_path`; weights in files beside it are found.

    Args:
        session: an `IBuilder` of `builder`.
        log: from `make_log`.

    Raises:
        ModelError: no such file, not an ONNX model, or one with operators that the builder does not
            support; all of them are named.
    """
    if not onnx_path.is_file():
        raise ModelError(f"{onnx_path}: no such file: export the model to ONNX first")
    api = builder.api
    network = session.create_network(1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = api.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx_path)):
        raise _refusal(builder, parser, onnx_path)
    # The parser takes random bytes for a valid empty model.
    if network.num_inputs == 0 or network.num_outputs == 0:
        raise ModelError(f"{onnx_path}: not an ONNX model: export the model again")
    return ParsedNetwork(network, parser)


def describe_network(network: Any) -> NetworkFacts:
    """Inputs, outputs and layers of an `INetworkDefinition`."""
    layers: dict[str, Counter[str]] = {}
    for place in range(network.num_layers):
        layer = network.get_layer(place)
        layers.setdefault(layer.type.name, Counter())[_dtype(layer.get_output(0))] += 1
    return NetworkFacts(
        inputs=tuple(_tensor(network.get_input(place)) for place in range(network.num_inputs)),
        outputs=tuple(_tensor(network.get_output(place)) for place in range(network.num_outputs)),
        layers={kind: dict(sorted(counts.items())) for kind, counts in sorted(layers.items())},
    )


def check_profile(profile: Profile, tensor: TensorFacts, file: str) -> None:
    """Raises ConfigError where the batch is fixed to another size, ModelError where another dimension varies."""
    batch, *rest = tensor.shape or (1,)
    if -1 in rest:
        raise ModelError(f"{file}: input {tensor.name} is {list(tensor.shape)}: only the batch may vary")
    if batch != -1 and {profile.min, profile.opt, profile.max} != {batch}:
        raise ConfigError(
            f"profile {profile}: the batch of {file} is fixed at {batch}: use {batch}:{batch}:{batch}, "
            "or export with a dynamic batch"
        )


def dtype_name(dtype: Any) -> str:
    """NumPy's name of a `DataType`: `DataType.HALF` → "float16"."""
    return DTYPES.get(dtype.name, dtype.name.lower())


def _refusal(builder: Builder, parser: Any, onnx_path: Path) -> ModelError:
    errors = [parser.get_error(place) for place in range(parser.num_errors)]
    if any(error.code() == builder.api.ErrorCode.MODEL_DESERIALIZE_FAILED for error in errors):
        return ModelError(f"{onnx_path}: not an ONNX model, or cut off: export the model again")
    nodes = [(error.node_operator(), error.node_name()) for error in errors if error.node_operator()]
    if not nodes:
        reason = one_line(errors[0].desc()) if errors else "it does not say why"
        if "import initializer" in reason:
            return ModelError(f"{onnx_path}: its weights can't be read: their file belongs beside it, as exported")
        return ModelError(f"{onnx_path}: {builder} can't parse it: {reason}")
    return ModelError(
        f"{onnx_path}: {builder} does not support {_named(nodes)}{_reason(errors)}: "
        "change the model or the opset, or serve the ONNX file"
    )


def _named(nodes: list[tuple[str, str]]) -> str:
    """Each operator once, with the number of its nodes and the name of the first, or of the only one."""
    counts = Counter(operator for operator, _ in nodes)
    first = dict(reversed(nodes))
    shown = [
        f"{operator} ({first[operator] if count == 1 else f'{count} nodes, the first is {first[operator]}'})"
        for operator, count in counts.items()
    ]
    return ", ".join(shown)


def _reason(errors: list[Any]) -> str:
    """The first reason other than that there is no such operator."""
    for error in errors:
        reason = one_line(error.desc())
        if reason != "false" and "Plugin not found" not in reason:
            return f": {reason}"
    return ""


def _tensor(tensor: Any) -> TensorFacts:
    return TensorFacts(tensor.name, _dtype(tensor), tuple(tensor.shape))


def _dtype(tensor: Any) -> str:
    # Some layers, such as the end of a loop, have no output.
    return "none" if tensor is None else dtype_name(tensor.dtype)

"""ONNX files on disk: their metadata, external weights, and validity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ModelError

MAX_IR_VERSION = 10


def data_path(path: Path) -> Path:
    """The file of external weights of a large `path`: beside it, so that both are moved together."""
    return path.with_name(f"{path.name}.data")


def finish_onnx(path: Path, metadata: Mapping[str, str], max_embedded_bytes: int) -> None:
    """Converts a graph that another tool wrote to the artifact's form, in place, and checks it.

    The tool's metadata and the shapes of intermediate tensors are removed, and `metadata` is added. Weights larger
    than `max_embedded_bytes` go to `data_path(path)`.

    Raises:
        ModelError: the graph is not valid.
    """
    import onnx

    model = onnx.load(path)
    for stale in path.parent.glob(f"{path.name}.*"):
        stale.unlink()
    model.producer_name = "protoclip"
    model.ClearField("producer_version")
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    del model.metadata_props[:], model.graph.value_info[:], model.graph.metadata_props[:]
    _forget_the_tool(model.graph)
    onnx.helper.set_model_props(model, dict(metadata))
    save_onnx(model, path, max_embedded_bytes)


def save_onnx(model: Any, path: Path, max_embedded_bytes: int) -> None:
    """Writes a graph, weights larger than `max_embedded_bytes` to `data_path(path)`, and checks it.

    Raises:
        ModelError: the graph is not valid.
    """
    import onnx

    embedded = sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= max_embedded_bytes
    data = data_path(path).name
    # Small tensors stay embedded: shape inference has to read them.
    onnx.save(model, path, save_as_external_data=not embedded, location=data, size_threshold=1024)
    check_onnx(path)


def check_onnx(path: Path) -> None:
    """Raises ModelError, naming the problem, where the file is not valid ONNX."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path.name}: not valid ONNX: {first}") from error


def _forget_the_tool(graph: Any) -> None:
    for node in graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]

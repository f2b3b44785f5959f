"""ONNX files on disk: what is said inside them, where large weights go, and that they are valid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ModelError

MAX_IR_VERSION = 10


def data_path(path: Path) -> Path:
    """Where the weights of a large `path` are: beside it, so that both move together."""
    return path.with_name(f"{path.name}.data")


def finish_onnx(path: Path, metadata: Mapping[str, str], max_embedded_bytes: int) -> None:
    """Brings a graph that another tool wrote into the artifact's form, in place, and checks it.

    What the tool noted of itself, and the shapes between nodes, are taken out; `metadata` goes in. Weights
    beyond `max_embedded_bytes` go to `data_path(path)`.

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
    embedded = sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= max_embedded_bytes
    data = data_path(path).name
    # Small ones stay: shape inference has to read them.
    onnx.save(model, path, save_as_external_data=not embedded, location=data, size_threshold=1024)
    check_onnx(path)


def check_onnx(path: Path) -> None:
    """Raises ModelError, naming what is wrong, where the file is no valid ONNX."""
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

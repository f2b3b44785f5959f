"""Exports a torch encoder to a portable ONNX file, for older runtimes too.

The file's bytes depend only on the encoder: the exporter's stack traces, which contain local paths, are
removed, so that the same weights give the same file on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from protoclip.contract.errors import ConfigError, ModelError

from .onnx_files import MAX_IR_VERSION, check_onnx, data_path
from .tool_output import suppress_tool_output

DEFAULT_OPSET = 18
OPSETS = range(18, 23)
# Protocol buffers are limited to 2 GiB; the graph itself needs some of that.
MAX_EMBEDDED_BYTES = 2**31 - 2**26


@dataclass(frozen=True)
class Signature:
    """Names of an encoder's only input and only output in its ONNX file."""

    file: str
    input_name: str
    output_name: str


IMAGE = Signature("image.onnx", "pixels", "image_embedding")
TEXT = Signature("text.onnx", "tokens", "text_embedding")


def check_opset(opset: int) -> None:
    """Raises ConfigError where the exporter can't write `opset` in a file of IR version ≤ 10."""
    if opset not in OPSETS:
        raise ConfigError(f"opset {opset} can't be exported: use {OPSETS[0]} to {OPSETS[-1]}")


def write_onnx(
    encoder: nn.Module,
    example: Tensor,
    path: Path,
    signature: Signature,
    *,
    opset: int = DEFAULT_OPSET,
    metadata: Mapping[str, str] | None = None,
    max_embedded_bytes: int = MAX_EMBEDDED_BYTES,
) -> int:
    """Writes `encoder` to `path` and checks the file; the batch is dynamic and called "batch".

    Args:
        encoder: module with one tensor input and one tensor output; it is put into eval mode.
        example: an input of batch 2; all its other dimensions become fixed.
        metadata: goes into the file's `metadata_props`.
        max_embedded_bytes: weights larger than this go to `<path>.data` beside the file, which names
            it relative to itself.

    Returns:
        The file's IR version.

    Raises:
        ConfigError: `opset` is out of range.
        ModelError: the encoder can't be expressed in ONNX at this opset.
    """
    check_opset(opset)
    graph = _trace(encoder.eval(), example, signature, opset)
    _strip(graph)
    graph.producer_name = "protoclip"
    graph.producer_version = None
    graph.metadata_props.update(metadata or {})
    graph.ir_version = min(graph.ir_version, MAX_IR_VERSION)
    _save(graph, path, max_embedded_bytes)
    check_onnx(path)
    return int(graph.ir_version)


def _trace(encoder: nn.Module, example: Tensor, signature: Signature, opset: int) -> Any:
    try:
        with suppress_tool_output(), torch.no_grad():
            program = torch.onnx.export(
                encoder,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=[signature.input_name],
                output_names=[signature.output_name],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise ModelError(f"{signature.file}: can't be exported at opset {opset}: {_first_line(error)}") from error
    assert program is not None
    written = program.model.opset_imports.get("")
    if written != opset:
        raise ModelError(f"{signature.file}: needs opset {written}, not {opset}: export with --opset {written}")
    return program.model


def _strip(graph: Any) -> None:
    """Removes the exporter's metadata about each node's Python source, and the shapes of intermediate tensors.

    Every runtime infers shapes itself; ONNX Runtime's quantizer transposes weights and fails with the old shapes.
    """
    outputs = set(graph.graph.outputs)
    for node in graph.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in outputs:
                value.shape = value.type = None
    for value in graph.graph.initializers.values():
        value.metadata_props.clear()
        value.shape = value.type = None
    for value in graph.graph.inputs:
        value.metadata_props.clear()
    graph.graph.metadata_props.clear()
    graph.metadata_props.clear()


def _save(graph: Any, path: Path, max_embedded_bytes: int) -> None:
    import onnx_ir

    weights = (value.const_value for value in graph.graph.initializers.values())
    num_bytes = sum(tensor.nbytes for tensor in weights if tensor is not None)
    external = data_path(path).name if num_bytes > max_embedded_bytes else None
    onnx_ir.save(graph, path, external_data=external)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

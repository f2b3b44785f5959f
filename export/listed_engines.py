"""A manifest's engines that run ONNX graphs: opened by the files and names that it gives; the files looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from export.graphs.openvino_runtime import graph_precision, open_openvino_engine, openvino_name
from export.graphs.precision import engine_name
from export.graphs.runtime import Encoders, open_onnx_engine
from export.graphs.to_onnx import Signature
from export.parity.checks import Check, bounded, not_checked
from protoclip.contract.errors import ModelError
from protoclip.contract.manifest import EncoderFile, Engine, Manifest, Precision

GRAPHS = "graphs"


def open_listed(folder: Path, engine: Engine) -> Encoders:
    """The engine as a server runs it, in ONNX Runtime or OpenVINO.

    Raises:
        ModelError: a file can't be loaded.
        ConfigError: no OpenVINO, or a processor without bf16.
    """
    image, text = engine.image_encoder, engine.text_encoder
    signatures = _signature(image), _signature(text)
    opener = open_openvino_engine if engine.format == "openvino" else open_onnx_engine
    return opener(folder / image.file, folder / text.file, signatures, engine.precision)


def check_graphs(folder: Path, engine: Engine, manifest: Manifest) -> Check:
    """The check that both files are the manifest's model, in the entry's precision and with its names.

    OpenVINO's bf16 is computed from float32 graphs.

    Not checked for graphs without metadata, which earlier versions wrote.

    Raises:
        ModelError: a file is no ONNX graph.
    """
    named, precision = engine_name(engine.precision), engine.precision
    if engine.format == "openvino":
        named, precision = openvino_name(engine.precision), graph_precision(engine.precision)
    wrong = [] if engine.name == named else [f"the engine is called {engine.name}, and its precision's is {named}"]
    told = True
    for encoder in (engine.image_encoder, engine.text_encoder):
        graph = _load(folder / encoder.file)
        metadata = {entry.key: entry.value for entry in graph.metadata_props}
        told = told and "precision" in metadata
        wrong += [
            f"{encoder.file} {reason}" for reason in _differences(graph, metadata, encoder, precision, manifest)
        ]
    if not wrong and not told:
        return not_checked(GRAPHS, "an earlier version wrote them, and they don't say their model and precision")
    return bounded(GRAPHS, not wrong, "; ".join(wrong), "; ".join(wrong) or "as the manifest says", "equal")


def _differences(
    graph: Any, metadata: dict[str, str], encoder: EncoderFile, precision: Precision, manifest: Manifest
) -> list[str]:
    names = ([one.name for one in graph.graph.input], [one.name for one in graph.graph.output])
    wrong = []
    if metadata.get("precision", precision) != precision:
        wrong.append(f"has the precision {metadata['precision']}, not {precision}")
    if metadata.get("fingerprint", manifest.fingerprint) != manifest.fingerprint:
        wrong.append(f"was made from another model, {metadata['fingerprint'][:6]}")
    if names != ([encoder.input_name], [encoder.output_name]):
        wrong.append(f"takes {names[0]} and gives {names[1]}, not {encoder.input_name} and {encoder.output_name}")
    if precision == "fp32":
        opset = next((entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx")), None)
        found, expected = (opset, graph.ir_version), (manifest.opset, manifest.ir_version)
        if found != expected:
            wrong.append(f"has opset and IR version {found}, not {expected}")
    return wrong


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ModelError(f"{path}: no ONNX graph: {error}") from error


def _signature(encoder: EncoderFile) -> Signature:
    return Signature(Path(encoder.file).name, encoder.input_name, encoder.output_name)

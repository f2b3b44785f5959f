"""An artifact's encoder as a function of one batch, by OpenVINO on the CPU, imported on first use."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.install import install_command
from protoclip.contract.manifest import EncoderFile, Engine, check_files
from protoclip.contract.openvino_encoder import OpenVinoEncoder, OpenVinoError, has_openvino

from .onnx_session import Encode
from .transport import Array


def open_openvino_session(folder: Path, encoder: EncoderFile, engine: Engine) -> Encode:
    """uint8 `[B, H, W, 3]` or int32 `[B, T]` → float32 `[B, D]`. One batch at a time, since one uses all cores.

    Raises:
        ConfigError: OpenVINO isn't installed.
        ModelError: a file is missing, not the one that was exported, or not one that OpenVINO computes here in
            the precision that was compared; from the function, the batch can't be run.
    """
    others = (
        "or take another engine: Client(transport=ArtifactTransport(folder, engine='onnx_fp32')), or make one the "
        f"default that runs here: `protoclip benchmark {folder} --save`"
    )
    if not has_openvino():
        raise ConfigError(
            f"{folder}: engine {engine.name} runs in OpenVINO: {install_command('openvino')}, {others}"
        )
    check_files(folder, encoder.files())
    assert engine.inference_precision is not None, "the manifest gives it for every OpenVINO engine"
    try:
        run = OpenVinoEncoder(
            folder / encoder.file, engine.inference_precision, encoder.input_name, encoder.output_name
        )
    except OpenVinoError as error:
        raise ModelError(f"{folder}: engine {engine.name}: {error}: {others}") from error
    lock = threading.Lock()

    def encode(batch: NDArray[Any]) -> Array:
        with lock:
            try:
                return run(batch)
            except OpenVinoError as error:
                raise ModelError(f"{folder}: engine {engine.name}: {error}") from error

    return encode

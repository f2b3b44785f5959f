"""What the embedded server can't serve, said before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from protoclip.contract.errors import ServerError
from protoclip.contract.install import install_command
from protoclip.contract.openvino_encoder import has_openvino

from .catalog import PublicModel, find_openvino, find_plans


def check_runs_embedded(repository: Path, models: Sequence[PublicModel]) -> None:
    """Raises ServerError for TensorRT plans, and for OpenVINO engines where OpenVINO is not installed."""
    if plans := find_plans(repository, models):
        raise ServerError(
            f"{repository}: {plans[0]} is a TensorRT plan, which the embedded server can't load: serve it from "
            "the vendor's container with the TensorRT that built it, or write it anew with --engine onnx_fp32"
        )
    found = [] if has_openvino() else find_openvino(repository, models)
    if found:
        raise ServerError(
            f"{repository}: {found[0]} runs in OpenVINO, which is not installed: {install_command('openvino')}, "
            "or write it anew with --engine onnx_fp32"
        )

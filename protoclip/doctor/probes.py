"""Probes of heavy packages: `python -m protoclip.doctor.probes NAME` imports one, uses it, and prints JSON.

Each runs in a process of its own, so that an import that hangs or crashes can be reported.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any


def base_probe() -> dict[str, Any]:
    """Whether all packages that the client needs can be imported, those that read pictures and texts included."""
    from importlib import import_module
    from importlib.metadata import version

    for name in ("tritonclient.grpc", "protoclip.contract.manifest"):
        import_module(name)
    return {"version": version("protoclip")}


def torch_probe() -> dict[str, Any]:
    """Version, build and GPUs."""
    import torch

    gpus = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(number)
        gpus.append({"name": facts.name, "memory_bytes": facts.total_memory})
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "bf16": bool(gpus) and torch.cuda.is_bf16_supported(),
    }


def collectives_probe() -> dict[str, Any]:
    """Which collective backends torch was built with, and whether gloo's all-reduce works with world size 1."""
    import torch
    from torch import distributed

    if not distributed.is_available():
        return {"nccl": False, "gloo": False, "sum": None}
    gloo, total = distributed.is_gloo_available(), None
    if gloo:
        store = distributed.HashStore()  # type: ignore[attr-defined]
        distributed.init_process_group("gloo", store=store, rank=0, world_size=1, timeout=timedelta(seconds=20))
        tensor = torch.ones(2)
        distributed.all_reduce(tensor)
        total = float(tensor.sum())
        distributed.destroy_process_group()
    return {"nccl": distributed.is_nccl_available(), "gloo": gloo, "sum": total}


def torchvision_probe() -> dict[str, Any]:
    """Whether torchvision and open_clip can be imported, and whether the workaround was needed."""
    from protoclip.encoders.torchvision_workaround import make_torchvision_importable

    cured = make_torchvision_importable() is not None
    import open_clip
    import torchvision

    return {"version": torchvision.__version__, "cured": cured, "open_clip": open_clip.__version__}


def faiss_probe() -> dict[str, Any]:
    """Version, build, GPUs, and the nearest of three vectors."""
    import faiss
    import numpy as np

    index = faiss.IndexFlatIP(3)
    index.add(np.eye(3, dtype=np.float32))
    _, nearest = index.search(np.array([[0.1, 0.9, 0.2]], dtype=np.float32), 1)
    return {
        "version": faiss.__version__,
        "gpu_build": hasattr(faiss, "StandardGpuResources"),
        "num_gpus": faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0,
        "nearest": int(nearest[0, 0]),
    }


def onnx_probe() -> dict[str, Any]:
    """Versions of the packages that write graphs."""
    import onnx
    import onnxscript

    return {"version": onnx.__version__, "onnxscript": onnxscript.__version__}


def pyarrow_probe() -> dict[str, Any]:
    """Version, after a pyarrow array was converted to NumPy."""
    import pyarrow as pa

    return {"version": pa.__version__, "sum": int(pa.array([1, 2]).to_numpy().sum())}


def onnxruntime_probe() -> dict[str, Any]:
    """Version and execution providers."""
    import onnxruntime

    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}


def openvino_probe() -> dict[str, Any]:
    """Version, and whether it computes in bf16 on this processor."""
    from protoclip.contract.openvino_encoder import computes_bf16, load_openvino

    return {"version": load_openvino().__version__.split("-")[0], "bf16": computes_bf16()}


def tensorrt_probe() -> dict[str, Any]:
    """As `_plan_builder`, of `tensorrt`: without a GPU it does not start."""
    return _plan_builder("tensorrt")


def tensorrt_rtx_probe() -> dict[str, Any]:
    """As `_plan_builder`, of `tensorrt_rtx`, which starts anywhere."""
    return _plan_builder("tensorrt_rtx")


def _plan_builder(name: str) -> dict[str, Any]:
    """Version, after the package's libraries were loaded, and whether its builder starts."""
    from importlib import import_module

    package: Any = import_module(name)
    try:
        builds = bool(package.Builder(package.Logger()))
    except (TypeError, RuntimeError):
        builds = False
    return {"version": package.__version__, "builds": builds}


PROBES: dict[str, Callable[[], dict[str, Any]]] = {
    "protoclip": base_probe,
    "pyarrow": pyarrow_probe,
    "torch": torch_probe,
    "collectives": collectives_probe,
    "torchvision": torchvision_probe,
    "onnx": onnx_probe,
    "faiss": faiss_probe,
    "onnxruntime": onnxruntime_probe,
    "openvino": openvino_probe,
    "tensorrt": tensorrt_probe,
    "tensorrt_rtx": tensorrt_rtx_probe,
}


def main(name: str) -> None:
    """Prints the probe's facts as the last line on standard output."""
    facts = PROBES[name]()
    print(json.dumps(facts), flush=True)
    # Some packages hang or crash in their exit handlers, which says nothing about their use.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])

"""Which candidates can run on this machine, and why the others can't."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from export.graphs.openvino_runtime import OPENVINO_PRECISIONS, check_openvino
from export.plans.package import load_builder
from protoclip.config.model_settings import AS_PUBLISHED, PreprocessingConfig
from protoclip.contract.errors import ConfigError
from protoclip.contract.install import install_command
from protoclip.contract.manifest import BatchProfile, Engine, Manifest, Precision
from protoclip.contract.openvino_encoder import has_openvino

from .results import Missing

Runtime = Literal["torch", "torch_compile", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"]
Device = Literal["cpu", "cuda"]
# The float32 references for accuracy: the first of them that is available.
REFERENCES = ("torch_fp32", "onnx_fp32")
# ONNX Runtime emulates these on a CPU, for the verdict only: the speed of the float32 graph is meaningless.
_IMITATED: tuple[Precision, ...] = ("bf16", "fp8")


@dataclass(frozen=True)
class Model:
    """The torch model that an artifact was made from: `load_source`'s arguments, and its fingerprint."""

    source: str
    weights: str | None = None
    tokenizer: Path | None = None
    preprocessing: PreprocessingConfig = AS_PUBLISHED


@dataclass(frozen=True)
class Candidate:
    """One runtime and precision of the model.

    Attributes:
        engine: the artifact's engine that is run; None: only a comparison.
        files: image and text encoder; None for torch.
        served: Triton can run the engine this way.
        verified: the manifest's verdict was made with this runtime and device; otherwise accuracy is measured.
        profile: the batch sizes that a plan takes.
    """

    name: str
    runtime: Runtime
    device: Device
    precision: Precision
    engine: str | None = None
    files: tuple[Path, Path] | None = None
    served: bool = False
    verified: bool = False
    profile: BatchProfile | None = None

    def takes(self, batch: int) -> bool:
        return self.profile is None or self.profile.min <= batch <= self.profile.max


def discover(folder: Path, manifest: Manifest, model: Model | None) -> tuple[list[Candidate], list[Missing]]:
    """All candidates that can run here, torch's first, and one entry for each group or engine that can't."""
    import torch

    gpu = torch.cuda.is_available()
    found = [
        *_torch_candidates(model, gpu),
        *_onnx_candidates(folder, manifest),
        *_cuda_candidates(folder, manifest, gpu),
        *_openvino_candidates(folder, manifest),
        *_tensorrt_candidates(folder, manifest, gpu),
    ]
    return [candidate for candidate in found if isinstance(candidate, Candidate)], [
        candidate for candidate in found if isinstance(candidate, Missing)
    ]


def _torch_candidates(model: Model | None, gpu: bool) -> Iterator[Candidate | Missing]:
    if model is None:
        yield Missing("torch", "no SOURCE: name the run or the open_clip model that the artifact was made from")
        return
    devices: tuple[Device, ...] = ("cpu", "cuda") if gpu else ("cpu",)
    for device in devices:
        tail = "" if device == "cpu" else f"_{device}"
        yield Candidate(f"torch_fp32{tail}", "torch", device, "fp32")
        yield Candidate(f"torch_bf16{tail}", "torch", device, "bf16")
        if device == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            yield Missing("torch_compile", "no C++ compiler: apt-get install g++")
        else:
            yield Candidate(f"torch_compile{tail}", "torch_compile", device, "fp32")


def _onnx_candidates(folder: Path, manifest: Manifest) -> Iterator[Candidate | Missing]:
    for engine in _engines(manifest, "onnx"):
        if engine.precision in _IMITATED:
            yield Missing(engine.name, f"ONNX Runtime has no {engine.precision} on the CPU, and only imitates it")
        else:
            name, files = engine.name, _files(folder, engine)
            yield Candidate(name, "onnxruntime", "cpu", engine.precision, name, files, served=True, verified=True)


def _cuda_candidates(folder: Path, manifest: Manifest, gpu: bool) -> Iterator[Candidate | Missing]:
    import onnxruntime

    if not gpu:
        yield Missing("CUDA", "torch sees no NVIDIA GPU")
    elif "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        yield Missing("CUDA", f"this ONNX Runtime has no CUDA: {install_command('gpu')}")
    else:
        for engine in _engines(manifest, "onnx"):
            name, files = f"{engine.name}_cuda", _files(folder, engine)
            yield Candidate(name, "onnxruntime", "cuda", engine.precision, engine.name, files, served=True)


def _openvino_candidates(folder: Path, manifest: Manifest) -> Iterator[Candidate | Missing]:
    if not has_openvino():
        yield Missing("OpenVINO", f"not installed: {install_command('openvino')}")
        return
    graphs = {engine.precision: engine for engine in _engines(manifest, "onnx")}
    made = {engine.precision: engine.name for engine in _engines(manifest, "openvino")}
    for precision in OPENVINO_PRECISIONS:
        source = graphs.get("fp32" if precision == "bf16" else precision)
        if source is None:
            continue
        name, engine, files = f"openvino_{precision}", made.get(precision), _files(folder, source)
        try:
            check_openvino(precision)
        except ConfigError as error:
            yield Missing(name, str(error))
            continue
        there = engine is not None
        yield Candidate(name, "openvino", "cpu", precision, engine, files, served=there, verified=there)


def _tensorrt_candidates(folder: Path, manifest: Manifest, gpu: bool) -> Iterator[Candidate | Missing]:
    plans = [engine for engine in manifest.engines if engine.format in ("tensorrt", "tensorrt_rtx")]
    if not plans:
        yield Missing("TensorRT", "the artifact holds no plan")
    for engine in plans:
        yield _plan_candidate(folder, engine) if gpu else Missing(engine.name, "a plan needs an NVIDIA GPU")


def _plan_candidate(folder: Path, engine: Engine) -> Candidate | Missing:
    package: Literal["tensorrt", "tensorrt_rtx"] = "tensorrt" if engine.format == "tensorrt" else "tensorrt_rtx"
    try:
        load_builder(package)
    except ConfigError as error:
        return Missing(engine.name, str(error))
    return Candidate(
        name=engine.name,
        runtime=package,
        device="cuda",
        precision=engine.precision,
        engine=engine.name,
        files=_files(folder, engine),
        # Triton's backend loads the plans of TensorRT only.
        served=package == "tensorrt",
        verified=True,
        profile=None if engine.build is None else engine.build.profile,
    )


def _engines(manifest: Manifest, form: str) -> list[Engine]:
    return [engine for engine in manifest.engines if engine.format == form]


def _files(folder: Path, engine: Engine) -> tuple[Path, Path]:
    return folder / engine.image_encoder.file, folder / engine.text_encoder.file

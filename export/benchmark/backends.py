"""Opens a candidate: both encoders as functions of one batch in host memory, with any runtime.

Every candidate takes and returns NumPy arrays, so that transfers to and from a GPU are included in its time.
Shapes: `B` batch, `D` embedding; a batch is uint8 `[B, H, W, 3]` or int32 `[B, T]`, the answer float32 `[B, D]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from export.graphs.onnx_files import data_path
from export.graphs.openvino_runtime import open_openvino_engine
from export.graphs.runtime import Array, Encode, Encoders, open_onnx_engine
from export.graphs.to_onnx import IMAGE, TEXT
from protoclip.contract.errors import ModelError
from protoclip.contract.openvino_encoder import load_openvino

from .candidates import Candidate, Model
from .results import EncoderName

_LIBRARIES = {
    "torch": ("protoclip.encoders.model",),
    "torch_compile": ("protoclip.encoders.model", "torch._inductor"),
    "onnxruntime": ("onnxruntime",),
    "openvino": (),
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt_rtx",),
}


@dataclass(frozen=True)
class Backend:
    """A candidate that runs; `num_bytes` as in `CandidateResult`."""

    encoders: Encoders
    num_bytes: int

    @property
    def name(self) -> str:
        return self.encoders.backend

    def run(self, encoder: EncoderName, batch: NDArray[Any]) -> Array:
        """The embeddings of `batch`; raises ModelError, or the runtime's own exception, where it can't be run."""
        return (self.encoders.image if encoder == "image" else self.encoders.text)(batch)


def load_libraries(candidate: Candidate) -> None:
    """Imports the candidate's libraries, so that memory allocated afterwards is the model's."""
    for name in _LIBRARIES[candidate.runtime]:
        import_module(name)
    if candidate.runtime == "openvino":
        load_openvino()


def open_backend(candidate: Candidate, model: Model | None, fingerprint: str, threads: int) -> Backend:
    """Loads the candidate's model with `threads` threads; for a separate process: changes torch's global settings.

    Raises:
        ModelError: a file can't be loaded, or the torch model is not the one with `fingerprint`.
        ConfigError: a plan without GPU or TensorRT.
    """
    import torch

    torch.set_num_threads(threads)
    if candidate.files is None:
        assert model is not None, "torch's candidates are found only with a model"
        return _open_torch(candidate, model, fingerprint)
    return Backend(_open_files(candidate, candidate.files, threads), sum(map(_file_bytes, candidate.files)))


def _open_files(candidate: Candidate, files: tuple[Path, Path], threads: int) -> Encoders:
    if candidate.runtime == "openvino":
        return open_openvino_engine(*files, (IMAGE, TEXT), candidate.precision, threads)
    if candidate.runtime == "tensorrt" or candidate.runtime == "tensorrt_rtx":
        from export.plans.package import load_builder
        from export.plans.runtime import open_tensorrt_engine

        return open_tensorrt_engine(*files, load_builder(candidate.runtime))
    return open_onnx_engine(*files, (IMAGE, TEXT), candidate.precision, candidate.device, as_served=True)


def _open_torch(candidate: Candidate, model: Model, expected: str) -> Backend:
    import torch

    from export.graphs.encoders import ImageEncoder, TextEncoder
    from export.graphs.fingerprint import fingerprint
    from export.graphs.source import load_source

    # TF32 rounds to 10 bits of mantissa, which is not the float32 that the gate expects.
    torch.backends.cudnn.allow_tf32 = False
    clip = load_source(model.source, model.weights, model.tokenizer, model.preprocessing).clip
    if fingerprint(clip) != expected:
        raise ModelError(
            f"{model.source}: has other weights or settings than the artifact: name what it was made from, with "
            "its --weights and preprocessing"
        )
    if candidate.precision == "bf16":
        clip.module.to(torch.bfloat16)
        clip.module.get_submodule("visual").register_forward_pre_hook(
            lambda _, inputs: (inputs[0].to(torch.bfloat16), *inputs[1:])
        )
    num_bytes = sum(tensor.nbytes for tensor in clip.module.state_dict().values())
    modules = [module.eval().to(candidate.device) for module in (ImageEncoder(clip), TextEncoder(clip))]
    compiled = candidate.runtime == "torch_compile"
    encode = [_torch_encode(_compiled(module) if compiled else module, candidate.device) for module in modules]
    how = f"torch.compile {torch.__version__}" if compiled else f"torch {torch.__version__}"
    return Backend(Encoders(encode[0], encode[1], f"{how} on the {_place(candidate)}"), num_bytes)


def _compiled(module: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    # One graph for each batch size; beyond the limit torch would silently run eagerly.
    torch._dynamo.config.recompile_limit = 64
    compiled: Callable[..., Any] = torch.compile(module, dynamic=False)
    return compiled


def _torch_encode(module: Callable[..., Any], device: str) -> Encode:
    import torch

    def run(batch: NDArray[Any]) -> Array:
        with torch.no_grad():
            answer: Array = module(torch.from_numpy(batch).to(device)).cpu().numpy()
        return answer

    return run


def _place(candidate: Candidate) -> str:
    return "CPU" if candidate.device == "cpu" else "GPU"


def _file_bytes(path: Path) -> int:
    data = data_path(path)
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)

"""Runs a plan on a GPU, with torch's tensors as device memory.

Shapes: `B` batch, `H`, `W` picture size, `T` tokens, `D` embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.graphs.runtime import Encoders
from protoclip.contract.errors import ConfigError, ModelError

from .callbacks import make_log
from .network import TensorFacts, dtype_name
from .options import Profile, profile_for
from .package import Builder, find_gpu


def open_tensorrt_engine(image: Path, text: Path, builder: Builder) -> Encoders:
    """Both plans of an engine on the current GPU; raises as `TensorRtEncoder`."""
    encoders = TensorRtEncoder(image, builder), TensorRtEncoder(text, builder)
    gpu = find_gpu()
    return Encoders(*encoders, backend=f"{builder} on {gpu.name if gpu else 'a GPU'}")


class TensorRtEncoder:
    """An encoder's plan as a function of one batch: uint8 `[B, H, W, 3]` or int32 `[B, T]` → float32 `[B, D]`.

    Each batch runs in the profile that fits it best. Not for several threads at once.

    Attributes:
        profiles: what the plan was built with.

    Raises:
        ConfigError: there is no GPU.
        ModelError: the file is missing, or was built by another version or for another GPU.
    """

    def __init__(self, plan_path: Path, builder: Builder) -> None:
        if not torch.cuda.is_available():
            raise ConfigError(f"{plan_path}: a plan needs an NVIDIA GPU: run the ONNX file beside it")
        self._file, self._builder, self._log = plan_path, builder, make_log(builder.api)
        self._stream = torch.cuda.Stream()
        # The runtime must outlive the engine.
        self._runtime, self._engine = self._load()
        self._input, self._output = self._signature()
        self._contexts: dict[int, Any] = {}
        self.profiles = tuple(
            Profile(*(shape[0] for shape in self._engine.get_tensor_profile_shape(self._input.name, place)))
            for place in range(self._engine.num_optimization_profiles)
        )

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """The embeddings of `batch`; raises as `run`."""
        answer: NDArray[np.float32] = self.run(torch.from_numpy(np.ascontiguousarray(batch)).cuda()).cpu().numpy()
        return answer

    def run(self, batch: Tensor) -> Tensor:
        """The same on the GPU; returns when the result is ready.

        Raises:
            ConfigError: no profile takes a batch of this size, such as an empty one.
            ModelError: `batch` is not of the shape and data type that the plan takes, or the run fails.
        """
        batch = batch.contiguous()
        if dtype_of(batch) != self._input.dtype or tuple(batch.shape[1:]) != self._input.shape[1:]:
            raise ModelError(
                f"{self._file}: takes {self._input.dtype} {_shown(self._input.shape)}, "
                f"got {dtype_of(batch)} {_shown(tuple(batch.shape))}"
            )
        place = profile_for(self.profiles, len(batch))
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            answer = self._execute(self._context(place), batch)
        self._stream.synchronize()
        return answer

    def _execute(self, context: Any, batch: Tensor) -> Tensor:
        taken = context.set_input_shape(self._input.name, tuple(batch.shape))
        shape = tuple(context.get_tensor_shape(self._output.name))
        answer = torch.empty(shape, dtype=getattr(torch, self._output.dtype), device=batch.device)
        context.set_tensor_address(self._input.name, batch.data_ptr())
        context.set_tensor_address(self._output.name, answer.data_ptr())
        if not (taken and context.execute_async_v3(self._stream.cuda_stream)):
            raise self._failure(f"fails on a batch of {len(batch)}")
        return answer

    def _context(self, place: int) -> Any:
        # One execution context per profile, because changing a context's profile synchronises with the GPU.
        if place not in self._contexts:
            context = self._engine.create_execution_context()
            if context is None or not context.set_optimization_profile_async(place, self._stream.cuda_stream):
                raise self._failure(f"can't run profile {self.profiles[place]}")
            self._contexts[place] = context
        return self._contexts[place]

    def _load(self) -> tuple[Any, Any]:
        try:
            plan = self._file.read_bytes()
        except OSError as error:
            raise ModelError(f"{self._file}: can't be read: {error.strerror or error}") from error
        try:
            runtime = self._builder.api.Runtime(self._log)
        except (TypeError, RuntimeError) as error:
            raise self._failure("can't be loaded") from error
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._failure("a plan runs on the version and the GPU that it was built for: build it here")
        return runtime, engine

    def _signature(self) -> tuple[TensorFacts, TensorFacts]:
        engine, mode = self._engine, self._builder.api.TensorIOMode
        names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == mode.INPUT]
        outputs = [name for name in names if engine.get_tensor_mode(name) == mode.OUTPUT]
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError(f"{self._file}: not an encoder: {len(inputs)} inputs and {len(outputs)} outputs")
        return self._tensor(inputs[0]), self._tensor(outputs[0])

    def _tensor(self, name: str) -> TensorFacts:
        shape = tuple(self._engine.get_tensor_shape(name))
        return TensorFacts(name, dtype_name(self._engine.get_tensor_dtype(name)), shape)

    def _failure(self, what: str) -> ModelError:
        reason = self._log.take_error()
        return ModelError(f"{self._file}: {self._builder}: {what}{f': {reason}' if reason else ''}")


def dtype_of(tensor: Tensor) -> str:
    """NumPy's name of a tensor's data type."""
    return str(tensor.dtype).removeprefix("torch.")


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{', '.join('B' if dim == -1 else str(dim) for dim in shape)}]"

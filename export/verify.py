"""The parity gate: an exported model against the torch model in float32, on real and on hostile inputs.

Shapes: `N` inputs, `D` embedding. Torch runs the model as training and evaluation run it
(`protoclip.model`), not the wrapper that was exported: a mistake in the wrapper shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protoclip.contract.errors import ModelError
from protoclip.contract.text import Tokenizer
from protoclip.model import ClipModel, encode_images, encode_texts

from .compare import compare, recall_at_1, top_1
from .progress import Progress, silent
from .report import FP32_GATE, Agreement, EncoderReport, Gate, Report, gate_failures, named_comparisons
from .samples import Samples, adversarial_pixels, adversarial_texts, sample_pixels, sample_tokens
from .to_onnx import IMAGE, TEXT, Border

# One, the usual batch, the largest, and one that no kernel's tile divides.
BATCH_SIZES = (1, 8, 32, 7)

Array = NDArray[np.float32]


def verify_encoders(
    clip: ClipModel,
    folder: Path,
    samples: Samples,
    *,
    random_weights: bool = False,
    gate: Gate = FP32_GATE,
    progress: Progress = silent,
) -> Report:
    """Runs `image.onnx` and `text.onnx` of `folder` on the CPU beside `clip`, and compares.

    Raises:
        ModelError: ONNX Runtime can't load or run one of the files.
        DataError: a sample can't be used.
    """
    import onnxruntime

    tokenizer = Tokenizer(clip.tokenizer_json, clip.text)
    images = _Inputs(sample_pixels(samples, clip.pixels), adversarial_pixels(clip.pixels))
    texts = _Inputs(sample_tokens(samples, tokenizer), tokenizer.encode(adversarial_texts(clip.text)))
    image = _run_encoder(lambda x: encode_images(clip, x), folder, IMAGE, images, progress)
    text = _run_encoder(lambda x: encode_texts(clip, x), folder, TEXT, texts, progress)
    named = [*named_comparisons("image", image.report), *named_comparisons("text", text.report)]
    return Report(
        proves="the graph, not accuracy: the weights are random"
        if random_weights
        else "the graph and its weights",
        failures=tuple(failure for name, found in named for failure in gate_failures(name, found, gate)),
        gate=gate,
        reference=f"torch {torch.__version__} float32 on the CPU",
        candidate=f"ONNX Runtime {onnxruntime.__version__} on the CPU",
        samples=samples.origin,
        num_images=len(samples.pictures),
        num_texts=len(samples.texts),
        image=image.report,
        text=text.report,
        agreement=_agreement(image, text) if all(found.finite for _, found in named) else None,
    )


@dataclass(frozen=True)
class _Inputs:
    real: NDArray[Any]
    adversarial: NDArray[Any]


@dataclass(frozen=True)
class _Run:
    report: EncoderReport
    reference: Array
    candidate: Array


def _run_encoder(
    encode: Callable[[torch.Tensor], torch.Tensor],
    folder: Path,
    border: Border,
    inputs: _Inputs,
    progress: Progress,
) -> _Run:
    def torch_batch(batch: NDArray[Any]) -> Array:
        with torch.no_grad():
            return encode(torch.from_numpy(batch)).numpy()

    onnx_batch = open_encoder(folder / border.file, border)
    largest = max(BATCH_SIZES)
    reference = _in_batches(torch_batch, inputs.real, largest, progress, f"{border.file}: torch")
    by_batch_size = {}
    for size in BATCH_SIZES:
        candidate = _in_batches(onnx_batch, inputs.real, size, progress, f"{border.file}: ONNX, batch {size}")
        by_batch_size[size] = compare(reference, candidate)
    adversarial = compare(torch_batch(inputs.adversarial), onnx_batch(inputs.adversarial))
    return _Run(EncoderReport(by_batch_size, adversarial), reference, candidate)


def open_encoder(path: Path, border: Border) -> Callable[[NDArray[Any]], Array]:
    """ONNX Runtime on the CPU as a function of one batch, with as many threads as torch uses.

    Raises:
        ModelError: the file can't be loaded; from the function, the batch can't be run.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    refused: tuple[type[Exception], ...] = (
        *(state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf),
        *(state.NoSuchFile, state.NotImplemented, state.RuntimeException),
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except refused as error:
        raise ModelError(f"{path.name}: ONNX Runtime can't load it: {error}") from error

    def run(batch: NDArray[Any]) -> Array:
        try:
            output: Array = session.run([border.output_name], {border.input_name: batch})[0]
        except refused as error:
            raise ModelError(f"{path.name}: ONNX Runtime fails on a batch of {len(batch)}: {error}") from error
        return output

    return run


def _in_batches(
    encode: Callable[[NDArray[Any]], Array], inputs: NDArray[Any], size: int, progress: Progress, what: str
) -> Array:
    rows = []
    for start in range(0, len(inputs), size):
        rows.append(encode(inputs[start : start + size]))
        progress(what, min(start + size, len(inputs)), len(inputs))
    return np.concatenate(rows)


def _agreement(image: _Run, text: _Run) -> Agreement:
    def same(queries: _Run, keys: _Run) -> float:
        expected = top_1(queries.reference, keys.reference)
        return float((expected == top_1(queries.candidate, keys.candidate)).mean())

    def recalls(queries: _Run, keys: _Run) -> tuple[float, float]:
        return recall_at_1(queries.reference, keys.reference), recall_at_1(queries.candidate, keys.candidate)

    return Agreement(same(image, text), same(text, image), recalls(image, text), recalls(text, image))

"""The parity gate: an exported engine against the torch model in float32, on real and on adversarial inputs.

Shapes: `N` inputs, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graphs.runtime import Encode, Encoders
from protoclip.contract.manifest import Precision
from protoclip.contract.pixels import PixelSpec, load_pixels
from protoclip.contract.progress import Progress, silent

from .agreement import Embeddings, agreement
from .checks import Check
from .compare import centred_cosines, compare
from .gates import GATES, comparison_check, gate_of
from .reference import Inputs, Reference, in_batches
from .report import EncoderReport, EngineReport, Report

# One, the usual batch, the largest, and one that is not a multiple of any kernel's tile.
BATCH_SIZES = (1, 8, 32, 7)

Array = NDArray[np.float32]


def verify_engine(
    reference: Reference,
    encoders: Encoders,
    name: str,
    precision: Precision,
    *,
    pixels: PixelSpec | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    progress: Progress = silent,
) -> EngineReport:
    """Compares an engine, in any runtime, with torch.

    Args:
        pixels: preprocessing by the manifest; None: the model's own.
        batch_sizes: each that the engine takes is run over all real inputs.

    Raises:
        ModelError: the engine can't run a batch.
    """
    image, images = _run(encoders.image, reference.images, batch_sizes, progress, f"{name} image")
    text, texts = _run(encoders.text, reference.texts, batch_sizes, progress, f"{name} text")
    from_files = _from_files(reference, encoders.image, images, pixels or reference.pixels, max(batch_sizes))
    found = EngineReport(
        name=name,
        precision=precision,
        candidate=encoders.backend,
        gate=GATES[precision],
        image=image,
        text=text,
        from_files=compare(reference.from_files, from_files, reference.images.expected),
        answers=None,
    )
    answers = None
    if found.finite:
        classes = reference.classes.vectors(encoders.text, images.shape[1], max(batch_sizes))
        answers = agreement(reference.answers, Embeddings(images, texts, classes), reference.classes.labels)
    return replace(found, answers=answers).with_checks(*_checks(found))


def make_report(
    reference: Reference,
    engines: Sequence[EngineReport],
    random_weights: bool,
    checks: Sequence[Check] = (),
) -> Report:
    """The engines' verdicts together, with `checks` of the artifact as a whole."""
    return Report(
        proves="the graph, not accuracy: the weights are random"
        if random_weights
        else "the graph and its weights",
        reference=reference.described,
        samples=reference.samples.origin,
        num_images=len(reference.samples.pictures),
        num_texts=len(reference.samples.texts),
        engines=tuple(engines),
    ).with_checks(*checks)


def _checks(found: EngineReport) -> list[Check]:
    return [
        comparison_check(name, compared, gate_of(found.precision, name)) for name, compared in found.comparisons()
    ]


def _run(
    encode: Encode, inputs: Inputs, batch_sizes: Sequence[int], progress: Progress, what: str
) -> tuple[EncoderReport, Array]:
    by_batch_size: dict[int, Any] = {}
    for size in batch_sizes:

        def tell(done: int, total: int, size: int = size) -> None:
            progress(f"{what}, batch {size}", done, total)

        rows = in_batches(encode, inputs.real, size, tell)
        by_batch_size[size] = compare(inputs.expected, rows)
    hostile = in_batches(encode, inputs.adversarial, max(batch_sizes))
    adversarial = compare(inputs.expected_adversarial, hostile, inputs.expected)
    return EncoderReport(by_batch_size, adversarial, _centred(inputs.expected, rows)), rows


def _from_files(reference: Reference, encode: Encode, images: Array, pixels: PixelSpec, size: int) -> Array:
    known = pixels == reference.pixels
    files = reference.files if known else (*reference.samples.pictures, *reference.files)
    prepared = np.stack([load_pixels(file, pixels) for file in files])
    rest = in_batches(encode, prepared, size)
    return np.concatenate([images, rest]) if known else rest


def _centred(expected: Array, rows: Array) -> tuple[float, ...]:
    if not (np.isfinite(expected).all() and np.isfinite(rows).all()):
        return ()
    cosines = centred_cosines(expected, rows)
    return tuple(float(value) for value in cosines) if np.isfinite(cosines).all() else ()

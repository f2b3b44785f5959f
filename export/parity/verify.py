"""The parity gate: an exported engine against the torch model in float32, on real and on adversarial inputs.

Shapes: `N` inputs, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graphs.runtime import Encode, Encoders
from protoclip.contract.manifest import Precision
from protoclip.contract.pixels import PixelSpec, load_pixels
from protoclip.contract.progress import Progress, silent

from .agreement import Embeddings, agreement
from .checks import Check
from .compare import Comparison, centred_cosines, compare
from .detector_agreement import agreement as detector_agreement
from .detector_agreement import detector_check
from .gates import GATES, Gate, comparison_check, gate_of
from .random_weights import of_random_weights
from .reference import Inputs, Reference, in_batches
from .report import EncoderReport, EngineReport, Report
from .rows import rows_alone_check, rows_beside_others_check, unit_norm_check

ODD_BATCH, USUAL_BATCH = 7, 8

Array = NDArray[np.float32]


def batch_sizes_to(largest: int, usual: Sequence[int] = (USUAL_BATCH,)) -> tuple[int, ...]:
    """The sizes to compare where batches of up to `largest` are served.

    One, what is no multiple of any kernel's tile, the `usual` ones, and the largest, in ascending order.
    """
    return tuple(size for size in sorted({1, ODD_BATCH, *usual, largest}) if size <= largest)


def verify_engine(
    reference: Reference,
    encoders: Encoders,
    name: str,
    precision: Precision,
    *,
    pixels: PixelSpec | None = None,
    batch_sizes: Sequence[int] | None = None,
    progress: Progress = silent,
) -> EngineReport:
    """Compares an engine, in any runtime, with torch.

    Args:
        pixels: preprocessing by the manifest; None: the model's own.
        batch_sizes: each is run over all real inputs, repeated where there are fewer; None: up to the largest that
            the reference says is served.

    Raises:
        ModelError: the engine can't run a batch.
    """
    gate = GATES[precision]
    batch_sizes = batch_sizes or batch_sizes_to(reference.largest_batch)
    image = _run("image", encoders.image, reference.images, gate, batch_sizes, _named(progress, name))
    text = _run("text", encoders.text, reference.texts, gate, batch_sizes, _named(progress, name))
    from_files = _from_files(reference, encoders.image, image.rows, pixels or reference.pixels, max(batch_sizes))
    found = EngineReport(
        name=name,
        precision=precision,
        candidate=encoders.backend,
        gate=gate,
        image=image.report,
        text=text.report,
        from_files=compare(reference.from_files, from_files, reference.images.expected),
        answers=None,
    )
    answers = None
    if found.finite:
        classes = reference.classes.vectors(encoders.text, image.rows.shape[1], max(batch_sizes))
        answers = agreement(
            reference.answers, Embeddings(image.rows, text.rows, classes), reference.classes.labels
        )
    comparisons = (comparison_check(what, one, gate_of(precision, what)) for what, one in found.comparisons())
    checks = [*comparisons, *image.checks, *text.checks]
    if reference.random_weights and precision != "fp32":
        checks = of_random_weights(checks, dict(found.comparisons()))
    judged = None
    no_zeros = all(one.min_cosine is not None for one in image.report.by_batch_size.values())
    if found.finite and no_zeros and reference.judges is not None:
        judged = detector_agreement(reference.judges, reference.images.expected, image.rows)
        checks.append(detector_check(judged, precision, reference.random_weights))
    return replace(found, answers=answers, detector=judged).with_checks(*checks)


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


@dataclass(frozen=True)
class _Run:
    """What an encoder gave: its report, its embeddings `[N, D]` at the largest batch size, and checks of them."""

    report: EncoderReport
    rows: Array
    checks: tuple[Check, ...]


def _run(
    encoder: str, encode: Encode, inputs: Inputs, gate: Gate, batch_sizes: Sequence[int], progress: Progress
) -> _Run:
    by_size: dict[int, Array] = {}
    batches: dict[int, tuple[NDArray[Any], Array]] = {}
    compared: dict[int, Comparison] = {}
    for size in batch_sizes:

        def tell(done: int, total: int, size: int = size) -> None:
            progress(f"{encoder}, batch {size}", done, total)

        real = _filled(inputs.real, size)
        rows = in_batches(encode, real, size, tell)
        compared[size] = compare(_filled(inputs.expected, size), rows, inputs.expected)
        by_size[size] = rows[: len(inputs.real)]
        if size > 1:
            batches[size] = real[:size], rows[:size]
    hostile = in_batches(encode, inputs.adversarial, max(batch_sizes))
    adversarial = compare(inputs.expected_adversarial, hostile, inputs.expected)
    last = by_size[max(batch_sizes)]
    checks = [unit_norm_check(encoder, [*by_size.values(), hostile])]
    if 1 in by_size and batches:
        checks.append(rows_alone_check(encoder, by_size, inputs.expected, gate))
    if batches:
        checks.append(rows_beside_others_check(encoder, encode, batches, inputs.adversarial, gate))
    return _Run(EncoderReport(compared, adversarial, _centred(inputs.expected, last)), last, tuple(checks))


def _filled(rows: NDArray[Any], size: int) -> NDArray[Any]:
    """All `rows` `[N, ...]`, from the first on once more where they are fewer than one batch of `size`."""
    return rows if len(rows) >= size else rows[np.arange(size) % len(rows)]


def _named(progress: Progress, engine: str) -> Progress:
    return lambda what, done, total: progress(f"{engine} {what}", done, total)


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

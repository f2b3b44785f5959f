"""Whether candidates without a verdict from export pass the gate of their precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from export.parity.compare import compare
from export.parity.gates import GATES, missed_thresholds
from protoclip.contract.errors import ModelError
from protoclip.contract.manifest import Precision
from protoclip.contract.progress import Progress

from .candidate_pool import CandidatePool
from .candidates import REFERENCES, Candidate
from .results import Accuracy
from .worker import Worker

LARGEST_BATCH = 32
Embedded = Mapping[str, NDArray[np.float32]]


def measure_accuracies(
    pool: CandidatePool,
    candidates: Sequence[Candidate],
    every_candidate: Sequence[Candidate],
    batches: Sequence[int],
    progress: Progress,
) -> tuple[str | None, dict[str, Accuracy]]:
    """Compares the unverified ones among `candidates`, which are running, with the reference.

    That is torch in float32, where the torch model is known, or else the float32 graph in ONNX Runtime.
    The reference is taken from `every_candidate`, and opened only for this where it isn't one of `candidates`.
    Inputs are run at the largest of `batches` up to 32, or at the smallest.

    Returns:
        The reference's name with its runtime (None where no candidate needed one), and accuracies by candidate.

    Raises:
        ModelError: the reference can't be opened or run.
    """
    wanted = [candidate for candidate in pool.alive(candidates) if not candidate.verified]
    reference = next(
        (candidate for name in REFERENCES for candidate in every_candidate if candidate.name == name), None
    )
    if not wanted or reference is None:
        return None, {}
    if wanted == [reference]:
        return None, {reference.name: Accuracy(passed=True, origin="reference")}
    progress(f"accuracy: {reference.name}", 0, len(wanted))
    batch = max((size for size in batches if size <= LARGEST_BATCH), default=min(batches))
    backend, expected = _reference(pool, reference, batch, borrowed=reference not in candidates)
    found: dict[str, Accuracy] = {}
    for place, candidate in enumerate(wanted):
        progress(f"accuracy: {candidate.name}", place, len(wanted))
        if candidate == reference:
            found[candidate.name] = Accuracy(passed=True, origin="reference")
        elif (embedded := pool.ask(candidate, _embed, batch)) is not None:
            found[candidate.name] = judge(expected, embedded, candidate.precision)
    return f"{reference.name}, {backend}", found


def judge(expected: Embedded, embedded: Embedded, precision: Precision) -> Accuracy:
    """Checks both encoders' embeddings `[N, D]` against the gate of `precision`."""
    compared = {name: compare(rows, embedded[name]) for name, rows in expected.items()}
    cosines = [found.min_centred_cosine for found in compared.values()]
    differences = [found.max_abs_difference for found in compared.values()]
    failures = [
        f"{name}: {missed}"
        for name, found in compared.items()
        for missed in missed_thresholds(found, GATES[precision])
    ]
    return Accuracy(
        passed=not failures,
        origin="measured",
        min_centred_cosine=min((cosine for cosine in cosines if cosine is not None), default=None),
        max_abs_difference=max((value for value in differences if value is not None), default=None),
        failures=tuple(failures),
    )


def _reference(pool: CandidatePool, candidate: Candidate, batch: int, borrowed: bool) -> tuple[str, Embedded]:
    if borrowed:
        pool.open(candidate)
    if not pool.alive([candidate]):
        raise ModelError(next(line.reason for line in pool.missing if line.name == candidate.name))
    backend = pool.worker(candidate).backend
    expected = pool.ask(candidate, _embed, batch)
    if expected is None:
        raise ModelError(f"{candidate.name}: {pool.missing[-1].reason}")
    if borrowed:
        pool.close(candidate)
    return backend, expected


def _embed(worker: Worker, batch: int) -> Embedded:
    return {"image": worker.embed("image", batch), "text": worker.embed("text", batch)}

"""Whether the arms that no export has verified pass the gate of their precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ModelError
from protoclip.contract.manifest import Precision

from .benchmark_arms import REFERENCES, Arm
from .benchmark_fleet import Fleet
from .benchmark_table import Accuracy
from .benchmark_worker import Worker
from .compare import compare
from .progress import Progress
from .report import GATES, gate_failures

LARGEST_BATCH = 32
Embedded = Mapping[str, NDArray[np.float32]]


def measure_accuracies(
    fleet: Fleet, arms: Sequence[Arm], every_arm: Sequence[Arm], batches: Sequence[int], progress: Progress
) -> tuple[str | None, dict[str, Accuracy]]:
    """Compares the unverified ones among `arms`, which run, with the reference.

    That is torch in float32, where the torch model is known, or else the float32 graph in ONNX Runtime.
    The reference is taken from `every_arm`, and opened for this alone where it isn't one of `arms`. Inputs are
    run at the largest of `batches` up to 32, or at the smallest.

    Returns:
        The reference's name with what ran it (None where no arm needed one), and the accuracies by arm.

    Raises:
        ModelError: the reference can't be opened or run.
    """
    wanted = [arm for arm in fleet.alive(arms) if not arm.verified]
    reference = next((arm for name in REFERENCES for arm in every_arm if arm.name == name), None)
    if not wanted or reference is None:
        return None, {}
    if wanted == [reference]:
        return None, {reference.name: Accuracy(passed=True, origin="reference")}
    progress(f"accuracy: {reference.name}", 0, len(wanted))
    batch = max((size for size in batches if size <= LARGEST_BATCH), default=min(batches))
    backend, expected = _reference(fleet, reference, batch, borrowed=reference not in arms)
    found: dict[str, Accuracy] = {}
    for place, arm in enumerate(wanted):
        progress(f"accuracy: {arm.name}", place, len(wanted))
        if arm == reference:
            found[arm.name] = Accuracy(passed=True, origin="reference")
        elif (embedded := fleet.ask(arm, _embed, batch)) is not None:
            found[arm.name] = judge(expected, embedded, arm.precision)
    return f"{reference.name}, {backend}", found


def judge(expected: Embedded, embedded: Embedded, precision: Precision) -> Accuracy:
    """Both encoders' embeddings `[N, D]` by the gate of `precision`."""
    compared = {name: compare(rows, embedded[name]) for name, rows in expected.items()}
    cosines = [found.min_centred_cosine for found in compared.values()]
    differences = [found.max_abs_difference for found in compared.values()]
    failures = [line for name, found in compared.items() for line in gate_failures(name, found, GATES[precision])]
    return Accuracy(
        passed=not failures,
        origin="measured",
        min_centred_cosine=min((cosine for cosine in cosines if cosine is not None), default=None),
        max_abs_difference=max((value for value in differences if value is not None), default=None),
        failures=tuple(failures),
    )


def _reference(fleet: Fleet, arm: Arm, batch: int, borrowed: bool) -> tuple[str, Embedded]:
    if borrowed:
        fleet.open(arm)
    if not fleet.alive([arm]):
        raise ModelError(next(line.reason for line in fleet.missing if line.name == arm.name))
    backend = fleet.worker(arm).backend
    expected = fleet.ask(arm, _embed, batch)
    if expected is None:
        raise ModelError(f"{arm.name}: {fleet.missing[-1].reason}")
    if borrowed:
        fleet.close(arm)
    return backend, expected


def _embed(worker: Worker, batch: int) -> Embedded:
    return {"image": worker.embed("image", batch), "text": worker.embed("text", batch)}

"""Writes a benchmark's results to the artifact: speeds and default engine; and gives the next command."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from protoclip.contract.errors import ModelError, VerdictError
from protoclip.contract.manifest import load_manifest

from .results import Choice, nearest
from .run import Benchmark

SAVED_BATCH = 8


@dataclass(frozen=True)
class Saved:
    """What was written: throughput by engine at `batch`, and the engine that is served from now on."""

    batch: int
    pictures_per_s: dict[str, float]
    default_engine: str


def save_speeds(folder: Path, benchmark: Benchmark) -> Saved:
    """Writes the measured engines' throughput and the choice into the artifact's manifest, and nothing else.

    The throughput is that at batch 8, or at the chosen batch where a latency limit was asked for or 8 was
    not measured. Engines that were not measured keep what they had.

    Raises:
        ModelError: the artifact was replaced meanwhile, or pictures were not measured.
        VerdictError: no engine was chosen.
    """
    choice = require_choice(benchmark)
    manifest = load_manifest(folder)
    if manifest.fingerprint != benchmark.fingerprint:
        raise ModelError(f"{folder}: was exported anew in the meantime: run the benchmark again")
    batch = _saved_batch(benchmark, choice)
    speeds: dict[str, float] = {}
    engines = {candidate.name: candidate.engine for candidate in benchmark.candidates}
    for cell in benchmark.cells:
        engine = engines[cell.candidate]
        if engine is not None and (cell.encoder, cell.batch) == ("image", batch):
            speeds[engine] = max(cell.items_per_s, speeds.get(engine, 0.0))
    if not speeds:
        raise ModelError("--save keeps pictures per second: measure them with --encoder image or both")
    manifest.with_speeds(speeds, choice.engine).save(folder)
    return Saved(batch, speeds, choice.engine)


def require_choice(benchmark: Benchmark) -> Choice:
    """The choice; where there is none, raises VerdictError, which names the engine that comes nearest."""
    if benchmark.choice is not None:
        return benchmark.choice
    close = nearest(benchmark.candidates, benchmark.cells)
    passed = [candidate.name for candidate in benchmark.candidates if candidate.passed]
    if close is None and passed:
        raise VerdictError(
            f"{', '.join(passed)} passed, and no engine of this artifact is run that way: leave --candidate out, "
            "or export with the engine that is meant, for example `protoclip export --openvino fp32`"
        )
    if close is None:
        raise VerdictError("none of the engines that ran passed its gate: there is nothing to choose")
    raise VerdictError(
        f"no engine stays within --max-latency-ms {benchmark.settings.max_latency_ms:g}: the nearest is "
        f"{close.engine} at batch {close.batch} with {close.p99_ms:.1f} ms"
    )


def next_command(artifact: Path | str, choice: Choice) -> str:
    """The command that serves the chosen engine."""
    words = ["protoclip", "repository", str(artifact), "--engine", choice.engine]
    return shlex.join([*words, "--max-batch-size", str(choice.batch)])


def _saved_batch(benchmark: Benchmark, choice: Choice) -> int:
    usual = benchmark.settings.max_latency_ms is None and SAVED_BATCH in benchmark.settings.batches
    return SAVED_BATCH if usual else choice.batch

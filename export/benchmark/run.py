"""Benchmarks all candidates on this machine side by side: throughput, latency, memory, size, accuracy.

The candidates take turns over several rounds, so that other load on the machine affects all of them alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from export.parity.samples import Samples, sample_pixels, sample_tokens
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.manifest import Manifest, check_files, load_manifest, manifest_files
from protoclip.contract.progress import Progress, silent
from protoclip.contract.text import Tokenizer

from .accuracy import measure_accuracies
from .candidate_pool import CandidatePool
from .candidates import REFERENCES, Candidate, Model, discover
from .processor import processor_name
from .results import (
    Accuracy,
    CandidateResult,
    Cell,
    Choice,
    EncoderName,
    Missing,
    choose,
    make_cell,
)
from .worker import Job, Worker

LARGEST_BATCH = 4096


@dataclass(frozen=True)
class Settings:
    """How a benchmark is run: `seconds` of each cell are spread over `rounds`.

    Raises:
        ConfigError: a number is out of range.
    """

    batches: tuple[int, ...] = (1, 8, 32)
    encoders: tuple[EncoderName, ...] = ("image",)
    seconds: float = 2.0
    rounds: int = 5
    threads: int = 1
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        for batch in self.batches:
            if not 1 <= batch <= LARGEST_BATCH:
                raise ConfigError(f"--batch {batch}: use 1 to {LARGEST_BATCH}")
        if not self.batches or not self.encoders:
            raise ConfigError("nothing to measure: give a batch size and an encoder")
        for option, count in (("rounds", self.rounds), ("threads", self.threads)):
            if count < 1:
                raise ConfigError(f"--{option} {count}: use 1 or more")
        for option, value in (("seconds", self.seconds), ("max-latency-ms", self.max_latency_ms)):
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"--{option} {value}: use a number above 0")


@dataclass(frozen=True)
class Benchmark:
    """Results, with all that is needed to reproduce them.

    `reference` is what accuracies were measured against; None where no candidate needed one.
    """

    artifact: str
    name: str
    fingerprint: str
    processor: str
    settings: Settings
    samples: str
    reference: str | None
    candidates: tuple[CandidateResult, ...]
    cells: tuple[Cell, ...]
    missing: tuple[Missing, ...]
    choice: Choice | None

    def to_json(self) -> str:
        """Strict JSON; its names are those of the first version: `arms`, and `arm` in a cell and in the choice."""
        values = asdict(self)
        values["arms"] = values.pop("candidates")
        for part in (*values["cells"], *([values["choice"]] if values["choice"] else [])):
            part["arm"] = part.pop("candidate")
        return json.dumps(values, indent=2, allow_nan=False) + "\n"


def run_benchmark(
    folder: Path,
    samples: Samples,
    settings: Settings,
    model: Model | None = None,
    *,
    only: Sequence[str] = (),
    progress: Progress = silent,
) -> Benchmark:
    """Measures the engines of the artifact in `folder`, and with `model` torch beside them.

    A candidate that can't be opened or run is listed in `missing` with its reason.

    Args:
        samples: inputs for timing, and for accuracies that are not in the manifest.
        only: names of the candidates to run; empty: all.

    Raises:
        ConfigError: an unknown name in `only`, or no candidate takes one of the batch sizes.
        DataError: a sample can't be used.
        ModelError: no artifact, one of its files is missing or another, no candidate runs, or `model` can't be
            loaded or is not the one that the artifact was made from.
    """
    folder = Path(folder)
    manifest = load_manifest(folder)
    check_files(folder, manifest_files(manifest))
    every_candidate, missing = discover(folder, manifest, model)
    candidates = _selected(every_candidate, missing, only)
    refused = _refused_batches(candidates, settings.batches)
    inputs = _inputs(folder, manifest, samples)

    def job_of(candidate: Candidate) -> Job:
        return Job(candidate, model, manifest.fingerprint, settings.threads, inputs)

    with CandidatePool(job_of) as pool:
        _open(pool, candidates, progress)
        reference, accuracies = measure_accuracies(pool, candidates, every_candidate, settings.batches, progress)
        accuracies |= {
            candidate.name: _verdict(manifest, candidate) for candidate in candidates if candidate.verified
        }
        cells = _measure(pool, candidates, settings, progress)
        results = tuple(_result(pool, candidate, accuracies) for candidate in pool.alive(candidates))
    missing = [*([] if only else missing), *refused, *pool.missing]
    if not results:
        raise ModelError(f"{folder}: nothing runs here: {missing[-1].name}: {missing[-1].reason}")
    return Benchmark(
        *(str(folder), manifest.name, manifest.fingerprint, processor_name()),
        settings=settings,
        samples=samples.origin,
        reference=reference,
        candidates=results,
        cells=cells,
        missing=tuple(missing),
        choice=choose(results, cells, settings.max_latency_ms),
    )


def _open(pool: CandidatePool, candidates: Sequence[Candidate], progress: Progress) -> None:
    for place, candidate in enumerate(candidates):
        progress(f"opening {candidate.name}", place, len(candidates))
        pool.open(candidate)
        # Without the reference there are no accuracies, and SOURCE itself is likely to be wrong.
        if candidate.name == REFERENCES[0] and not pool.alive([candidate]):
            raise ModelError(pool.missing[-1].reason)


def _measure(
    pool: CandidatePool, candidates: Sequence[Candidate], settings: Settings, progress: Progress
) -> tuple[Cell, ...]:
    sizes = [(encoder, batch) for encoder in settings.encoders for batch in sorted(set(settings.batches))]
    memory: dict[tuple[Candidate, EncoderName, int], int | None] = {}
    turns: dict[tuple[Candidate, EncoderName, int], list[list[float]]] = {}
    # In ascending order, because a memory arena that has grown for a large batch does not shrink.
    for encoder, batch in sorted(sizes, key=lambda size: size[1]):
        for place, candidate in enumerate(waiting := _taking(pool, candidates, batch)):
            progress(f"warming up {candidate.name}, {encoder} batch {batch}", place, len(waiting))
            memory[candidate, encoder, batch] = pool.ask(candidate, Worker.warm_up, encoder, batch)
    seconds = settings.seconds / settings.rounds
    for number in range(settings.rounds):
        for place, (encoder, batch) in enumerate(sizes):
            progress(f"round {number + 1} of {settings.rounds}, {encoder} batch {batch}", place, len(sizes))
            for candidate in _taking(pool, candidates, batch):
                calls = pool.ask(candidate, Worker.turn, encoder, batch, seconds)
                turns.setdefault((candidate, encoder, batch), []).append(calls or [])
    return tuple(
        make_cell(
            candidate.name, encoder, batch, turns[candidate, encoder, batch], memory[candidate, encoder, batch]
        )
        for candidate in pool.alive(candidates)
        for encoder, batch in sizes
        if candidate.takes(batch)
    )


def _taking(pool: CandidatePool, candidates: Sequence[Candidate], batch: int) -> list[Candidate]:
    return [candidate for candidate in pool.alive(candidates) if candidate.takes(batch)]


def _result(pool: CandidatePool, candidate: Candidate, accuracies: dict[str, Accuracy]) -> CandidateResult:
    worker = pool.worker(candidate)
    return CandidateResult(
        name=candidate.name,
        engine=candidate.engine if candidate.served else None,
        precision=candidate.precision,
        backend=worker.backend,
        num_bytes=worker.num_bytes,
        accuracy=accuracies.get(candidate.name),
    )


def _verdict(manifest: Manifest, candidate: Candidate) -> Accuracy:
    assert candidate.engine is not None, "only engines are verified"
    verdict = manifest.engine_named(candidate.engine).verdict
    cosine, difference = verdict.min_centred_cosine, verdict.max_abs_difference
    failures = () if verdict.passed else (f"refused when it was exported: see {verdict.report_file}",)
    return Accuracy(verdict.passed, "manifest", cosine, difference, failures)


def _selected(candidates: Sequence[Candidate], missing: Sequence[Missing], only: Sequence[str]) -> list[Candidate]:
    known = {candidate.name for candidate in candidates}
    for name in only:
        reason = next((line.reason for line in missing if _is_about(line, name)), None)
        if reason is not None:
            raise ConfigError(f"--candidate {name}: {reason}")
        if name not in known:
            raise ConfigError(
                f"--candidate {name}: can't run here; there are {', '.join(sorted(known)) or 'none'}"
            )
    return [candidate for candidate in candidates if not only or candidate.name in only]


def _is_about(line: Missing, candidate: str) -> bool:
    """Whether `line` names the candidate, or its group: "OpenVINO" is about openvino_fp32."""
    return line.name == candidate or line.name.lower() in candidate.split("_")


def _refused_batches(candidates: Sequence[Candidate], batches: Sequence[int]) -> list[Missing]:
    refused = []
    for batch in batches:
        lines = [
            Missing(
                candidate.name,
                f"batch {batch} is beyond its profile, {candidate.profile.min} to {candidate.profile.max}",
            )
            for candidate in candidates
            if candidate.profile is not None and not candidate.takes(batch)
        ]
        if lines and len(lines) == len(candidates):
            raise ConfigError(f"--batch {batch}: {lines[0].name}: {lines[0].reason}")
        refused += lines
    return refused


def _inputs(folder: Path, manifest: Manifest, samples: Samples) -> dict[EncoderName, NDArray[Any]]:
    tokenizer = Tokenizer((folder / manifest.tokenizer_file).read_text(encoding="utf-8"), manifest.text)
    return {"image": sample_pixels(samples, manifest.pixels), "text": sample_tokens(samples, tokenizer)}

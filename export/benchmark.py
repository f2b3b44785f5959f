"""Runs a model every way that this machine offers, side by side: throughput, latency, memory, size, accuracy.

The arms take turns over several rounds, so that whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.manifest import Manifest, check_files, load_manifest, manifest_files
from protoclip.contract.text import Tokenizer

from .benchmark_accuracy import measure_accuracies
from .benchmark_arms import REFERENCES, Arm, Model, discover
from .benchmark_fleet import Fleet
from .benchmark_table import Accuracy, ArmResult, Cell, Choice, EncoderName, Missing, choose, make_cell
from .benchmark_worker import Job, Worker
from .progress import Progress, silent
from .samples import Samples, sample_pixels, sample_tokens

LARGEST_BATCH = 4096
_CPU_FACTS = Path("/proc/cpuinfo")


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
    """What was found, with all that has to be known to find it again.

    `reference` is what measured accuracies are against; None where no arm needed one.
    """

    artifact: str
    name: str
    fingerprint: str
    processor: str
    settings: Settings
    samples: str
    reference: str | None
    arms: tuple[ArmResult, ...]
    cells: tuple[Cell, ...]
    missing: tuple[Missing, ...]
    choice: Choice | None

    def to_json(self) -> str:
        """Strict JSON."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"


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

    An arm that can't be opened or run stands in `missing` with its reason.

    Args:
        samples: what is encoded, and what accuracies are measured on that the manifest doesn't know.
        only: names of the arms to run; empty: all.

    Raises:
        ConfigError: an unknown name in `only`, or no arm takes one of the batch sizes.
        DataError: a sample can't be used.
        ModelError: no artifact, one of its files is missing or another, no arm runs, or `model` can't be
            loaded or is not the one that the artifact was made from.
    """
    folder = Path(folder)
    manifest = load_manifest(folder)
    check_files(folder, manifest_files(manifest))
    every_arm, missing = discover(folder, manifest, model)
    arms = _selected(every_arm, missing, only)
    refused = _refused_batches(arms, settings.batches)
    inputs = _inputs(folder, manifest, samples)

    def job_of(arm: Arm) -> Job:
        return Job(arm, model, manifest.fingerprint, settings.threads, inputs)

    with Fleet(job_of) as fleet:
        _open(fleet, arms, progress)
        reference, accuracies = measure_accuracies(fleet, arms, every_arm, settings.batches, progress)
        accuracies |= {arm.name: _verdict(manifest, arm) for arm in arms if arm.verified}
        cells = _measure(fleet, arms, settings, progress)
        results = tuple(_result(fleet, arm, accuracies) for arm in fleet.alive(arms))
    missing = [*([] if only else missing), *refused, *fleet.missing]
    if not results:
        raise ModelError(f"{folder}: nothing runs here: {missing[-1].name}: {missing[-1].reason}")
    return Benchmark(
        *(str(folder), manifest.name, manifest.fingerprint, _processor()),
        settings=settings,
        samples=samples.origin,
        reference=reference,
        arms=results,
        cells=cells,
        missing=tuple(missing),
        choice=choose(results, cells, settings.max_latency_ms),
    )


def _open(fleet: Fleet, arms: Sequence[Arm], progress: Progress) -> None:
    for place, arm in enumerate(arms):
        progress(f"opening {arm.name}", place, len(arms))
        fleet.open(arm)
        # Without it nothing is known of the others, and SOURCE itself is likely to be wrong.
        if arm.name == REFERENCES[0] and not fleet.alive([arm]):
            raise ModelError(fleet.missing[-1].reason)


def _measure(fleet: Fleet, arms: Sequence[Arm], settings: Settings, progress: Progress) -> tuple[Cell, ...]:
    sizes = [(encoder, batch) for encoder in settings.encoders for batch in sorted(set(settings.batches))]
    memory: dict[tuple[Arm, EncoderName, int], int | None] = {}
    turns: dict[tuple[Arm, EncoderName, int], list[list[float]]] = {}
    # Upwards, because what an arena took for a large batch it keeps for the small ones.
    for encoder, batch in sorted(sizes, key=lambda size: size[1]):
        for place, arm in enumerate(waiting := _taking(fleet, arms, batch)):
            progress(f"warming up {arm.name}, {encoder} batch {batch}", place, len(waiting))
            memory[arm, encoder, batch] = fleet.ask(arm, Worker.warm_up, encoder, batch)
    seconds = settings.seconds / settings.rounds
    for number in range(settings.rounds):
        for place, (encoder, batch) in enumerate(sizes):
            progress(f"round {number + 1} of {settings.rounds}, {encoder} batch {batch}", place, len(sizes))
            for arm in _taking(fleet, arms, batch):
                calls = fleet.ask(arm, Worker.turn, encoder, batch, seconds)
                turns.setdefault((arm, encoder, batch), []).append(calls or [])
    return tuple(
        make_cell(arm.name, encoder, batch, turns[arm, encoder, batch], memory[arm, encoder, batch])
        for arm in fleet.alive(arms)
        for encoder, batch in sizes
        if arm.takes(batch)
    )


def _taking(fleet: Fleet, arms: Sequence[Arm], batch: int) -> list[Arm]:
    return [arm for arm in fleet.alive(arms) if arm.takes(batch)]


def _result(fleet: Fleet, arm: Arm, accuracies: dict[str, Accuracy]) -> ArmResult:
    worker = fleet.worker(arm)
    return ArmResult(
        name=arm.name,
        engine=arm.engine if arm.served else None,
        precision=arm.precision,
        backend=worker.backend,
        num_bytes=worker.num_bytes,
        accuracy=accuracies.get(arm.name),
    )


def _verdict(manifest: Manifest, arm: Arm) -> Accuracy:
    assert arm.engine is not None, "only engines are verified"
    verdict = manifest.engine_named(arm.engine).verdict
    cosine, difference = verdict.min_centred_cosine, verdict.max_abs_difference
    failures = () if verdict.passed else (f"refused when it was exported: see {verdict.report_file}",)
    return Accuracy(verdict.passed, "manifest", cosine, difference, failures)


def _selected(arms: Sequence[Arm], missing: Sequence[Missing], only: Sequence[str]) -> list[Arm]:
    known = {arm.name for arm in arms}
    for name in only:
        reason = next((line.reason for line in missing if line.name == name), None)
        if reason is not None:
            raise ConfigError(f"--arm {name}: {reason}")
        if name not in known:
            raise ConfigError(f"--arm {name}: can't run here; there are {', '.join(sorted(known)) or 'none'}")
    return [arm for arm in arms if not only or arm.name in only]


def _refused_batches(arms: Sequence[Arm], batches: Sequence[int]) -> list[Missing]:
    refused = []
    for batch in batches:
        lines = [
            Missing(arm.name, f"batch {batch} is beyond its profile, {arm.profile.min} to {arm.profile.max}")
            for arm in arms
            if arm.profile is not None and not arm.takes(batch)
        ]
        if lines and len(lines) == len(arms):
            raise ConfigError(f"--batch {batch}: {lines[0].name}: {lines[0].reason}")
        refused += lines
    return refused


def _inputs(folder: Path, manifest: Manifest, samples: Samples) -> dict[EncoderName, NDArray[Any]]:
    tokenizer = Tokenizer((folder / manifest.tokenizer_file).read_text(encoding="utf-8"), manifest.text)
    return {"image": sample_pixels(samples, manifest.pixels), "text": sample_tokens(samples, tokenizer)}


def _processor() -> str:
    if _CPU_FACTS.exists():
        for line in _model_lines(_CPU_FACTS.read_text(errors="replace")):
            return line
    return platform.processor() or platform.machine()


def _model_lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            yield value.strip()

"""The parity gate's thresholds and results; `verdict.json` holds a Report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from protoclip.contract.manifest import Precision, Verdict

from .agreement import Agreement
from .compare import Comparison

VERDICT_FILE = "verdict.json"


@dataclass(frozen=True)
class Gate:
    """Thresholds that every comparison has to meet, besides being finite; None: not checked."""

    max_abs_difference: float | None = None
    min_cosine: float | None = None
    min_centred_cosine: float | None = None
    max_error_to_neighbour: float | None = None


FP32_GATE = Gate(max_abs_difference=1e-5, min_cosine=0.999999)
# Below half the distance to the neighbour an embedding stays nearest to its own reference, for at least half
# of the rows.
_HALF = Gate(min_centred_cosine=0.999, max_error_to_neighbour=0.25)
_EIGHT_BITS = Gate(min_centred_cosine=0.98, max_error_to_neighbour=0.5)
GATES: Mapping[Precision, Gate] = {
    "fp32": FP32_GATE,
    "fp16": _HALF,
    "bf16": _HALF,
    "int8": _EIGHT_BITS,
    "int8_static": _EIGHT_BITS,
    "fp8": _EIGHT_BITS,
}
FROM_FILES = "image, from files"
# Pillow rounds between the two passes of a resize, and from 13 on runs them in another order for some sizes:
# our pixels, which are the same with every version, then differ from open_clip's by one grey level.
_FROM_FILES_GATE = Gate(min_centred_cosine=0.999, max_error_to_neighbour=0.1)


def gate_of(precision: Precision, comparison: str) -> Gate:
    """The gate of the comparison of that name: that of the precision, except for fp32 from files."""
    return _FROM_FILES_GATE if (precision, comparison) == ("fp32", FROM_FILES) else GATES[precision]


@dataclass(frozen=True)
class EncoderReport:
    """One encoder: on the real inputs by batch size, and on the adversarial ones.

    `centred_cosines` `[N]` are those of the real inputs, at the last batch size; empty where undefined.
    """

    by_batch_size: dict[int, Comparison]
    adversarial: Comparison
    centred_cosines: tuple[float, ...] = ()


@dataclass(frozen=True)
class EngineReport:
    """All results for one engine; `failures` is empty if and only if its gate is passed.

    `from_files` compares from the picture files on: decoded, resized and normalised by open_clip for the torch
    model, and as the manifest says for the engine. `answers` is None where an embedding isn't finite.
    """

    name: str
    precision: Precision
    candidate: str
    gate: Gate
    failures: tuple[str, ...]
    image: EncoderReport
    text: EncoderReport
    from_files: Comparison
    answers: Agreement | None
    pictures_per_s: float | None = None

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def ran(self) -> bool:
        """Whether the engine was run; if not, all numbers are None and a failure says why."""
        return bool(self.image.by_batch_size)

    @property
    def finite(self) -> bool:
        return all(comparison.finite for _, comparison in self.comparisons())

    def comparisons(self) -> list[tuple[str, Comparison]]:
        """Every comparison with its name, such as "image, batch 8"."""
        return [*self.same_inputs(), (FROM_FILES, self.from_files)]

    def same_inputs(self) -> list[tuple[str, Comparison]]:
        """The comparisons in which both sides saw the same pixels and tokens."""
        return [*named_comparisons("image", self.image), *named_comparisons("text", self.text)]


@dataclass(frozen=True)
class Report:
    """The verdict on an artifact, engine by engine."""

    proves: str
    reference: str
    samples: str
    num_images: int
    num_texts: int
    engines: tuple[EngineReport, ...]

    @property
    def passed(self) -> bool:
        return all(engine.passed for engine in self.engines)

    @property
    def failures(self) -> tuple[str, ...]:
        """All engines' failures, each with its engine's name."""
        return tuple(f"{engine.name}: {failure}" for engine in self.engines for failure in engine.failures)

    def verdict(self, engine: EngineReport) -> Verdict:
        """The manifest's summary of one engine on the same inputs. Only for a finite one."""
        assert engine.finite
        if not engine.ran:
            return Verdict(
                passed=False,
                max_abs_difference=None,
                min_cosine=None,
                num_images=0,
                num_texts=0,
                report_file=VERDICT_FILE,
            )
        found = [comparison for _, comparison in engine.same_inputs()]
        centred = [c.min_centred_cosine for c in found if c.min_centred_cosine is not None]
        return Verdict(
            passed=engine.passed,
            max_abs_difference=max(c.max_abs_difference or 0.0 for c in found),
            min_cosine=min(-1.0 if c.min_cosine is None else c.min_cosine for c in found),
            min_centred_cosine=min(centred, default=None),
            num_images=self.num_images,
            num_texts=self.num_texts,
            report_file=VERDICT_FILE,
        )

    def to_json(self) -> str:
        """The report as `verdict.json` holds it; strict JSON, undefined numbers are null."""
        values = {"passed": self.passed, **asdict(self)}
        for engine, found in zip(values["engines"], self.engines, strict=True):
            engine["passed"], engine["ran"] = found.passed, found.ran
        return json.dumps(values, indent=2, allow_nan=False) + "\n"


def unseen_report(name: str, precision: Precision, candidate: str, failure: str) -> EngineReport:
    """The report of an engine that could not be run."""
    nothing = Comparison(0, True, None, None, None, None, None, None)
    unseen = EncoderReport({}, nothing)
    return EngineReport(name, precision, candidate, GATES[precision], (failure,), unseen, unseen, nothing, None)


def named_comparisons(name: str, report: EncoderReport) -> list[tuple[str, Comparison]]:
    """An encoder's comparisons with names such as "image, batch 8"."""
    sizes = [(f"{name}, batch {size}", found) for size, found in report.by_batch_size.items()]
    return [*sizes, (f"{name}, adversarial", report.adversarial)]


def gate_failures(name: str, found: Comparison, gate: Gate) -> list[str]:
    """The thresholds that `found` misses, each in one line; empty if it passes."""
    difference, cosine = found.max_abs_difference, found.min_cosine
    if not found.finite or difference is None:
        return [f"{name}: NaN or infinity"]
    failures = []
    if gate.max_abs_difference is not None and difference > gate.max_abs_difference:
        failures.append(f"{name}: off by {difference:.1e}, allowed {gate.max_abs_difference:.0e}")
    if cosine is None:
        failures.append(f"{name}: an embedding is zero")
    elif gate.min_cosine is not None and cosine < gate.min_cosine:
        failures.append(f"{name}: cosine {cosine:.7f}, needed {gate.min_cosine}")
    return failures + _crowd_failures(name, found, gate)


def _crowd_failures(name: str, found: Comparison, gate: Gate) -> list[str]:
    failures = []
    centred, error = found.min_centred_cosine, found.error_to_neighbour
    if gate.min_centred_cosine is not None:
        if centred is None:
            failures.append(f"{name}: all embeddings are alike, so that no error shows")
        elif centred < gate.min_centred_cosine:
            failures.append(f"{name}: centred cosine {centred:.5f}, needed {gate.min_centred_cosine}")
    if gate.max_error_to_neighbour is not None and (error is None or error > gate.max_error_to_neighbour):
        size = "no distance" if error is None else f"{error:.2f} of the distance"
        failures.append(f"{name}: error is {size} to a neighbour, allowed {gate.max_error_to_neighbour}")
    return failures

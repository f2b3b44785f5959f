"""What the parity gate asks for and what it found; `verdict.json` holds a Report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from protoclip.contract.manifest import Verdict

from .compare import Comparison

VERDICT_FILE = "verdict.json"


@dataclass(frozen=True)
class Gate:
    """What every comparison has to meet, besides being finite."""

    max_abs_difference: float = 1e-5
    min_cosine: float = 0.999999


FP32_GATE = Gate()


@dataclass(frozen=True)
class EncoderReport:
    """One encoder: on the real inputs by batch size, and on the hostile ones."""

    by_batch_size: dict[int, Comparison]
    adversarial: Comparison


@dataclass(frozen=True)
class Agreement:
    """Whether the two models answer alike: pictures ask, the N sample texts are the keys, and back.

    `top_1_*` is the part of queries with the same best key in both; `recall_at_1_*` of the true pairs.
    """

    top_1_image_to_text: float
    top_1_text_to_image: float
    recall_at_1_image_to_text: tuple[float, float]
    recall_at_1_text_to_image: tuple[float, float]


@dataclass(frozen=True)
class Report:
    """All that was found; `failures` is empty if and only if the gate is passed."""

    proves: str
    failures: tuple[str, ...]
    gate: Gate
    reference: str
    candidate: str
    samples: str
    num_images: int
    num_texts: int
    image: EncoderReport
    text: EncoderReport
    agreement: Agreement | None

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def finite(self) -> bool:
        return all(comparison.finite for _, comparison in self.comparisons())

    def comparisons(self) -> list[tuple[str, Comparison]]:
        """Every comparison with its name, such as "image, batch 8"."""
        return [*named_comparisons("image", self.image), *named_comparisons("text", self.text)]

    def verdict(self) -> Verdict:
        """The manifest's summary. Only for a finite report."""
        assert self.finite
        found = [comparison for _, comparison in self.comparisons()]
        return Verdict(
            passed=self.passed,
            max_abs_difference=max(c.max_abs_difference or 0.0 for c in found),
            min_cosine=min(-1.0 if c.min_cosine is None else c.min_cosine for c in found),
            num_images=self.num_images,
            num_texts=self.num_texts,
            report_file=VERDICT_FILE,
        )

    def to_json(self) -> str:
        """The report as `verdict.json` holds it; strict JSON, undefined numbers are null."""
        return json.dumps({"passed": self.passed, **asdict(self)}, indent=2, allow_nan=False) + "\n"


def named_comparisons(name: str, report: EncoderReport) -> list[tuple[str, Comparison]]:
    """An encoder's comparisons with names such as "image, batch 8"."""
    sizes = [(f"{name}, batch {size}", found) for size, found in report.by_batch_size.items()]
    return [*sizes, (f"{name}, adversarial", report.adversarial)]


def gate_failures(name: str, found: Comparison, gate: Gate) -> list[str]:
    """What keeps `found` from passing, each in one line; empty if it passes."""
    difference, cosine = found.max_abs_difference, found.min_cosine
    if not found.finite or difference is None:
        return [f"{name}: NaN or infinity"]
    failures = []
    if difference > gate.max_abs_difference:
        failures.append(f"{name}: off by {difference:.1e}, allowed {gate.max_abs_difference:.0e}")
    if cosine is None:
        failures.append(f"{name}: an embedding is zero")
    elif cosine < gate.min_cosine:
        failures.append(f"{name}: cosine {cosine:.7f}, needed {gate.min_cosine}")
    return failures

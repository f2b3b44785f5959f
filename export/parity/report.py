"""The parity gate's results; `verdict.json` holds a Report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from protoclip.contract.manifest import Precision, Verdict

from .agreement import Agreement
from .checks import Check, failed_lines, unchecked_lines, with_checks
from .compare import Comparison
from .detector_agreement import Agreement as DetectorAgreement
from .gates import FROM_FILES, GATES, Gate

VERDICT_FILE = "verdict.json"


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
    """All results for one engine: numbers, and the named checks that they passed or failed.

    `from_files` compares from the picture files on: decoded, resized and normalised by open_clip for the torch
    model, and as the manifest says for the engine. `answers` is None where an embedding isn't finite, `detector`
    also where one is zero, or the artifact has no detector. `not_run` says why an engine could not be run; all
    numbers are None then.
    """

    name: str
    precision: Precision
    candidate: str
    gate: Gate
    image: EncoderReport
    text: EncoderReport
    from_files: Comparison
    answers: Agreement | None
    checks: tuple[Check, ...] = ()
    pictures_per_s: float | None = None
    not_run: str | None = None
    detector: DetectorAgreement | None = None

    def with_checks(self, *checks: Check) -> EngineReport:
        """The same with more checks; raises ValueError where a name comes twice."""
        return replace(self, checks=with_checks(self.checks, checks))

    @property
    def failures(self) -> tuple[str, ...]:
        """Why it does not pass, each in one line that begins with the check's name; empty where it passes."""
        return (() if self.not_run is None else (self.not_run,)) + failed_lines(self.checks)

    @property
    def failed_names(self) -> tuple[str, ...]:
        """What each of `failures` begins with: the check's name, or that it was not run or built."""
        return tuple(line.partition(":")[0] for line in self.failures)

    @property
    def not_checked(self) -> tuple[str, ...]:
        """What could not be checked here, each in one line that begins with the check's name."""
        return unchecked_lines(self.checks)

    @property
    def passed(self) -> bool:
        """Whether nothing failed; what `not_checked` names is still open then."""
        return not self.failures

    @property
    def ran(self) -> bool:
        return self.not_run is None

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
    """The verdict on an artifact, engine by engine; `checks` are those of the artifact as a whole.

    `speeds` says how engines were measured, and whether the machine was busy; None: they were not.
    """

    proves: str
    reference: str
    samples: str
    num_images: int
    num_texts: int
    engines: tuple[EngineReport, ...]
    checks: tuple[Check, ...] = ()
    speeds: str | None = None

    def with_checks(self, *checks: Check) -> Report:
        """The same with more checks of the whole artifact; raises ValueError where a name comes twice."""
        return replace(self, checks=with_checks(self.checks, checks))

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """The artifact's failures, and all engines', each with its engine's name."""
        engines = (f"{engine.name}: {failure}" for engine in self.engines for failure in engine.failures)
        return (*failed_lines(self.checks), *engines)

    @property
    def failed_names(self) -> tuple[str, ...]:
        """The names of `failures`: `tokens`, `onnx_fp32, text, batch 8`."""
        own = (check.name for check in self.checks if check.outcome == "failed")
        engines = (f"{engine.name}, {name}" for engine in self.engines for name in engine.failed_names)
        return (*own, *engines)

    @property
    def not_checked(self) -> tuple[str, ...]:
        """What could not be checked here, in the same form."""
        engines = (f"{engine.name}: {line}" for engine in self.engines for line in engine.not_checked)
        return (*unchecked_lines(self.checks), *engines)

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
            largest_batch=max(engine.image.by_batch_size),
            not_checked=engine.not_checked,
        )

    def to_json(self) -> str:
        """The report as `verdict.json` holds it; strict JSON, undefined numbers are null."""
        values = {"passed": self.passed, **asdict(self)}
        for engine, found in zip(values["engines"], self.engines, strict=True):
            engine["passed"], engine["ran"] = found.passed, found.ran
            engine["failures"] = found.failures
        return json.dumps(values, indent=2, allow_nan=False) + "\n"


def unseen_report(name: str, precision: Precision, candidate: str, why: str) -> EngineReport:
    """The report of an engine that could not be run."""
    nothing = Comparison(0, True, None, None, None, None, None, None)
    unseen = EncoderReport({}, nothing)
    return EngineReport(name, precision, candidate, GATES[precision], unseen, unseen, nothing, None, not_run=why)


def named_comparisons(name: str, report: EncoderReport) -> list[tuple[str, Comparison]]:
    """An encoder's comparisons with names such as "image, batch 8"."""
    sizes = [(f"{name}, batch {size}", found) for size, found in report.by_batch_size.items()]
    return [*sizes, (f"{name}, adversarial", report.adversarial)]

"""The verdict on what a server answered, over one protocol.

The client is described here and not imported: who joins the two hands in `protoclip.Client`.
`P` pictures and `M` texts were sent, `A` of each once more, alone in a request; `D` embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, get_args

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ItemError
from protoclip.contract.manifest import Manifest, Precision
from protoclip.contract.served_detector import ServedDetector

from .agreement import Agreement, Embeddings, agreement
from .checks import Check, bounded, not_checked
from .compare import Comparison, compare
from .detector_agreement import Judges, decisions, detector_check
from .gates import FROM_FILES, GATES, comparison_check, gate_of
from .report import EncoderReport, EngineReport

Array = NDArray[np.float32]
PARAMETERS, ANSWERS, LARGEST_BATCH = "served parameters", "answers", "largest batch"
PICTURES, HOSTILE_PICTURES, PICTURES_ALONE = "pictures", "pictures, adversarial", "pictures, one by one"
TEXTS, HOSTILE_TEXTS, TEXTS_ALONE = "texts", "texts, adversarial", "texts, one by one"
_NOTHING = Comparison(0, True, None, None, None, None, None, None)


class ServedModel(Protocol):
    """What a server says of its model."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def embedding_dim(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def logit_bias(self) -> float | None: ...
    @property
    def probabilities(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def verdict(self) -> str: ...
    @property
    def max_batch_size(self) -> int: ...
    @property
    def detector(self) -> ServedDetector | None: ...


class Detection(Protocol):
    """Whether one picture is known, and its score."""

    @property
    def known(self) -> bool: ...
    @property
    def score(self) -> float: ...


class Embedded(Protocol):
    """Vectors `[n, D]` of a batch, NaN where an item was refused, and these items' errors."""

    @property
    def vectors(self) -> Array: ...
    @property
    def errors(self) -> tuple[ItemError, ...]: ...


class ServerClient(Protocol):
    """What is asked of a client: the model, and streams in the order of the items."""

    @property
    def model(self) -> ServedModel: ...
    def stream_images(self, items: Iterable[bytes]) -> Iterator[Embedded]: ...
    def stream_texts(self, texts: Iterable[str]) -> Iterator[Embedded]: ...
    def detect(self, images: Sequence[bytes], errors: Literal["return"]) -> Sequence[Detection | ItemError]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: Any) -> None: ...


@dataclass(frozen=True)
class All:
    """A whole stream's `Embedded`; positions of errors are those in the stream."""

    vectors: Array
    errors: tuple[ItemError, ...]


@dataclass(frozen=True)
class Expected:
    """Torch's embeddings of all that is sent.

    `pictures` `[P, D]` are of our pixels, `from_files` `[P, D]` of open_clip's, `texts` `[M, D]` of the texts: the
    samples first, then the adversarial ones. The crowds are those of the samples alone, as `compare` takes them.
    """

    pictures: Array
    from_files: Array
    texts: Array
    picture_crowd: Array
    text_crowd: Array


@dataclass(frozen=True)
class Answers:
    """What the server answered: `[P, D]`, `[M, D]`, and `[A, D]` of the first ones of each.

    `judged`: which samples are known, and their scores; None where there is no detector, or a sample was refused.
    """

    pictures: All
    texts: All
    pictures_alone: All
    texts_alone: All
    judged: tuple[NDArray[np.bool_], Array] | None = None


def served_report(
    name: str,
    candidate: str,
    model: ServedModel,
    manifest: Manifest,
    expected: Expected,
    answers: Answers,
    largest: int,
    judges: Judges | None = None,
) -> EngineReport:
    """All checks of the answers, as those of an engine in the precision that the server names.

    `largest` is the most items that were in a request; `judges` the artifact's detector.
    """
    parameters = parameters_check(model, manifest)
    # A precision that is unknown here is a failure already, and gets the strictest gate.
    precision: Precision = model.precision if model.precision in get_args(Precision) else "fp32"  # type: ignore[assignment]
    pictures, texts = expected.picture_crowd, expected.text_crowd
    found = {
        PICTURES: _compared(expected.pictures, answers.pictures, pictures, 0, len(pictures)),
        HOSTILE_PICTURES: _compared(expected.pictures, answers.pictures, pictures, len(pictures)),
        PICTURES_ALONE: _compared(expected.pictures, answers.pictures_alone, pictures),
        FROM_FILES: _compared(expected.from_files, answers.pictures, pictures),
        TEXTS: _compared(expected.texts, answers.texts, texts, 0, len(texts)),
        HOSTILE_TEXTS: _compared(expected.texts, answers.texts, texts, len(texts)),
        TEXTS_ALONE: _compared(expected.texts, answers.texts_alone, texts),
    }
    checks = [comparison_check(what, one, gate_of(precision, what)) for what, one in found.items()]
    judged = None
    if judges is not None and answers.judged is not None:
        judged = decisions(judges, pictures, *answers.judged)
        checks.append(detector_check(judged, precision, random_weights=False))
    return EngineReport(
        name=name,
        precision=precision,
        candidate=candidate,
        gate=GATES[precision],
        image=EncoderReport({largest: found[PICTURES], 1: found[PICTURES_ALONE]}, found[HOSTILE_PICTURES]),
        text=EncoderReport({largest: found[TEXTS], 1: found[TEXTS_ALONE]}, found[HOSTILE_TEXTS]),
        from_files=found[FROM_FILES],
        answers=_same_answers(expected, answers),
        detector=judged,
    ).with_checks(parameters, largest_batch_check(model, manifest), _answered(answers), *checks)


def _same_answers(expected: Expected, answers: Answers) -> Agreement | None:
    """Whether the samples find each other as in torch; None where one was refused."""
    if answers.pictures.errors or answers.texts.errors:
        return None
    pictures, texts = expected.picture_crowd, expected.text_crowd
    none = np.zeros((0, pictures.shape[1]), dtype=np.float32)
    found = answers.pictures.vectors[: len(pictures)], answers.texts.vectors[: len(texts)]
    return agreement(Embeddings(pictures, texts, none), Embeddings(*found, none), np.zeros(0, dtype=np.int64))


def parameters_check(model: ServedModel, manifest: Manifest) -> Check:
    """The check that the server describes its model as the manifest does."""
    fields = ("name", "fingerprint", "embedding_dim", "temperature", "logit_bias", "probabilities")
    wrong = [
        f"{field} is {getattr(model, field)}, and the manifest's {getattr(manifest, field)}"
        for field in fields
        if getattr(model, field) != getattr(manifest, field)
    ]
    carried, served = manifest.detector, model.detector
    if (carried is None) != (served is None):
        wrong.append("the artifact has a detector, and the server none" if served is None else
                     "the server has a detector, and the artifact none")  # fmt: skip
    elif carried is not None and served is not None and carried.threshold != served.threshold:
        wrong.append(f"the detector's threshold is {served.threshold}, and the manifest's {carried.threshold}")
    engines = {(one.precision, "passed" if one.verdict.passed else "failed") for one in manifest.engines}
    if (model.precision, model.verdict) not in engines:
        wrong.append(
            f"no engine of the artifact has the precision {model.precision} and a {model.verdict} verdict"
        )
    return bounded(PARAMETERS, not wrong, "; ".join(wrong), "; ".join(wrong) or "equal", "equal")


def largest_batch_check(model: ServedModel, manifest: Manifest) -> Check:
    """The check that the server takes no larger batch than the verdict compared on the engine that it serves.

    Not checked where the manifest does not say it, or several engines that may be served were compared to others.
    """
    served = [
        engine.verdict.largest_batch
        for engine in manifest.engines
        if (engine.precision, "passed" if engine.verdict.passed else "failed") == (model.precision, model.verdict)
    ]
    found, known = model.max_batch_size, [size for size in served if size is not None]
    if known and found <= min(known) and len(known) == len(served):
        return bounded(LARGEST_BATCH, True, "", str(found), f"≤ {min(known)}")
    if known and found > max(known) and len(known) == len(served):
        words = (
            f"requests of up to {found} are put together, and the verdict compared batches of up to {max(known)}: "
            f"export again with --max-batch-size {found}, or serve {max(known)} at most"
        )
        return bounded(LARGEST_BATCH, False, words, str(found), f"≤ {max(known)}")
    if known and len(known) == len(served):
        why = f"engines of this precision were compared to {min(known)} and to {max(known)}: either may be served"
    else:
        why = "the manifest doesn't say up to which size engines of this precision were compared: export again"
    return not_checked(LARGEST_BATCH, why, str(found))


def _answered(answers: Answers) -> Check:
    """The check that no item was refused: all that is sent can be embedded."""
    errors = [
        f"{what} {error.position}: {error.reason}"
        for what, part in (
            ("picture", answers.pictures),
            ("text", answers.texts),
            ("picture", answers.pictures_alone),
            ("text", answers.texts_alone),
        )
        for error in part.errors
    ]
    words = f"{len(errors)} pictures and texts are refused that the model takes; {errors[0] if errors else ''}"
    return bounded(ANSWERS, not errors, words, f"{len(errors)} refused", "0")


def _compared(expected: Array, found: All, crowd: Array, start: int = 0, stop: int | None = None) -> Comparison:
    """Over the rows from `start` to before `stop` that were answered; a comparison of nothing where none was."""
    refused = {error.position for error in found.errors}
    rows = [row for row in range(len(found.vectors))[start:stop] if row not in refused]
    return compare(expected[rows], found.vectors[rows], crowd) if rows else _NOTHING


def joined(parts: Sequence[Embedded]) -> All:
    """The parts of a stream as one; at least one part is needed."""
    vectors: Array = np.concatenate([part.vectors for part in parts])
    return All(vectors, tuple(error for part in parts for error in part.errors))

"""A detector: a score, a threshold, and the model whose embeddings it is for. `N` pictures, `D` embedding."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protoclip.contract.errors import ConfigError
from protoclip.contract.served_detector import ServedDetector

from .detector_file import DetectorRecord, ThresholdRecord, read_detector, write_detector
from .kinds import NamesClass, Scorer, scorer_from
from .threshold import Threshold, find_threshold
from .vectors import Array, Centring, Scores, checked


@dataclass(frozen=True)
class Judgement:
    """Whether one picture is of a known kind.

    Attributes:
        known: whether `score` reaches the detector's threshold; None where it has none.
        score: higher for what is known; its scale is the kind's own.
        reason: one line that says so, with both numbers.
    """

    known: bool | None
    score: float
    reason: str


@dataclass(frozen=True, eq=False)
class Detector:
    """Tells pictures of known kinds from others by their embeddings. Made by `fit_detector` or `open`.

    Attributes:
        kind: "mixture", "mixture_posterior", "mahalanobis", "neighbours", "energy", "max_softmax" or "concepts".
        scorer: what it learned.
        centring: what is done to embeddings before.
        maybe_threshold: from which score on a picture is known; None: it was made without known pictures, and
            gives scores alone until `calibrated`.
        classes: names of the known kinds; none where it was made without.
        num_fit: known pictures that it learned from.
        fingerprint: of the model whose embeddings it is for; "" where that is not known.
        model: that model's prefix.
    """

    kind: str
    scorer: Scorer
    centring: Centring
    maybe_threshold: Threshold | None
    classes: tuple[str, ...]
    num_fit: int
    fingerprint: str = ""
    model: str = ""

    @property
    def dim(self) -> int:
        """D of the embeddings."""
        return len(self.centring.mean)

    @property
    def threshold(self) -> Threshold:
        """From which score on a picture is known.

        Raises:
            ConfigError: there is none yet.
        """
        if self.maybe_threshold is None:
            raise ConfigError(
                "the detector was made without known pictures, and has no threshold: set one by an index of them "
                "with `protoclip detect calibrate`, or Detector.calibrated"
            )
        return self.maybe_threshold

    def score(self, embeddings: ArrayLike) -> Scores:
        """`[N]`, higher for what is known.

        Args:
            embeddings: `[N, D]` of any norm; N may be 0.

        Raises:
            DataError: another D, or a row that is not finite or all zeros.
        """
        if not len(np.atleast_2d(embeddings)):
            return np.zeros(0)
        return self.scorer.score(self.centring(checked(embeddings, self.dim)))

    def accepts(self, scores: Scores) -> NDArray[np.bool_] | None:
        """Which of `[N]` scores are of known pictures; None without a threshold."""
        return None if self.maybe_threshold is None else scores >= self.maybe_threshold.value

    def calibrated(self, known: ArrayLike, accept: float = 0.95) -> Self:
        """The same detector, with a threshold that accepts a share of known pictures.

        Args:
            known: `[N, D]` of any norm, pictures of the known that the detector was not fit on; which class each
                is of does not matter.
            accept: as of `fit_detector`.

        Raises:
            ConfigError: `accept` is out of range.
            DataError: as `score`, or too few pictures for it.
        """
        return replace(self, maybe_threshold=find_threshold(self.score(known), accept, given=True))

    def judge(self, embeddings: ArrayLike) -> list[Judgement]:
        """One judgement a picture, in order. Arguments and errors as of `score`."""
        return [self._judged(float(score)) for score in self.score(embeddings)]

    def _judged(self, score: float) -> Judgement:
        if self.maybe_threshold is None:
            way_out = "known pictures set one, by Detector.calibrated or `protoclip detect calibrate`"
            return Judgement(None, score, f"{self.kind} score {score:.4g}, and no threshold: {way_out}")
        known = score >= self.threshold.value
        told = ServedDetector(self.kind, self.threshold.value, self.threshold.accept)
        return Judgement(known, score, told.reason(score, known))

    def nearest_classes(self, embeddings: ArrayLike) -> list[str]:
        """The known class that each picture is most like; "" where the detector keeps no classes apart.

        Arguments and errors as of `score`.
        """
        count = len(np.atleast_2d(embeddings))
        if not count or not self.classes or not isinstance(self.scorer, NamesClass):
            return [""] * count
        numbers = self.scorer.nearest_class(self.centring(checked(embeddings, self.dim)))
        return [self.classes[number] for number in numbers]

    def check_model(self, fingerprint: str, model: str = "") -> None:
        """Raises ConfigError where another model than the detector's makes the embeddings."""
        if self.fingerprint != fingerprint:
            raise ConfigError(
                f"the detector is for embeddings by {self.model or 'a model'} ({self.fingerprint or 'unknown'}), "
                f"and these are by {model or 'another one'} ({fingerprint or 'unknown'}): fit it anew"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one safetensors file, in place of an older one; what is no array is JSON in its metadata.

        Raises:
            ProtoclipError: it can't be written.
        """
        threshold = self.maybe_threshold
        record = DetectorRecord(
            kind=self.kind,
            model=self.model,
            fingerprint=self.fingerprint,
            embedding_dim=self.dim,
            classes=self.classes,
            num_fit=self.num_fit,
            threshold=None if threshold is None else ThresholdRecord(**asdict(threshold)),
        )
        write_detector(Path(path), record, {"centre": self.centring.mean, **self.scorer.arrays()})

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Reads what `save` wrote.

        Raises:
            ModelError: no such file, another kind of file, or a damaged one.
        """
        record, arrays = read_detector(Path(path), scorer_from)
        centre: Array = arrays["centre"].astype(np.float32)
        found = record.threshold
        return cls(
            kind=record.kind,
            scorer=scorer_from(record.kind, arrays),
            centring=Centring(centre),
            maybe_threshold=None if found is None else Threshold(**found.model_dump()),
            classes=record.classes,
            num_fit=record.num_fit,
            fingerprint=record.fingerprint,
            model=record.model,
        )

"""A detector: a score, a threshold, and the model whose embeddings it is for. `N` pictures, `D` embedding."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from protoclip.contract.errors import ConfigError

from .detector_file import DetectorRecord, ThresholdRecord, read_detector, write_detector
from .kinds import Scorer, scorer_from
from .threshold import Threshold
from .vectors import Array, Centring, Scores, checked


@dataclass(frozen=True)
class Judgement:
    """Whether one picture is of a known kind.

    Attributes:
        known: whether `score` reaches the detector's threshold.
        score: higher for what is known; its scale is the kind's own.
        reason: one line that says so, with both numbers.
    """

    known: bool
    score: float
    reason: str


@dataclass(frozen=True, eq=False)
class Detector:
    """Tells pictures of known kinds from others by their embeddings. Made by `fit_detector` or `open`.

    Attributes:
        kind: "mixture", "mixture_posterior", "mahalanobis", "neighbours", "energy", "max_softmax" or "concepts".
        scorer: what it learned.
        centring: what is done to embeddings before.
        threshold: from which score on a picture is known.
        classes: names of the known kinds; none where it was made without.
        num_fit: known pictures that it learned from.
        fingerprint: of the model whose embeddings it is for; "" where that is not known.
        model: that model's prefix.
    """

    kind: str
    scorer: Scorer
    centring: Centring
    threshold: Threshold
    classes: tuple[str, ...]
    num_fit: int
    fingerprint: str = ""
    model: str = ""

    @property
    def dim(self) -> int:
        """D of the embeddings."""
        return len(self.centring.mean)

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

    def judge(self, embeddings: ArrayLike) -> list[Judgement]:
        """One judgement a picture, in order. Arguments and errors as of `score`."""
        return [self._judged(float(score)) for score in self.score(embeddings)]

    def _judged(self, score: float) -> Judgement:
        known = score >= self.threshold.value
        word = "at least" if known else "below"
        share = f"which {self.threshold.accept:.0%} of known pictures reach"
        return Judgement(
            known,
            score,
            f"{self.kind} score {score:.4g}, {word} the threshold {self.threshold.value:.4g}, {share}",
        )

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
        threshold = self.threshold
        record = DetectorRecord(
            kind=self.kind,
            model=self.model,
            fingerprint=self.fingerprint,
            embedding_dim=self.dim,
            classes=self.classes,
            num_fit=self.num_fit,
            threshold=ThresholdRecord(
                value=threshold.value,
                accept=threshold.accept,
                low=threshold.low,
                high=threshold.high,
                num=threshold.num,
            ),
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
            threshold=Threshold(found.value, found.accept, found.low, found.high, found.num),
            classes=record.classes,
            num_fit=record.num_fit,
            fingerprint=record.fingerprint,
            model=record.model,
        )

"""A detector in the served image model: its tensors, what the model's parameters say of it, and its reasons.

`B` pictures. Beside `embedding` and `error` a model with a detector answers `known` bool [B, 1] and `known_score`
float32 [B, 1]; of a picture that was refused false and NaN.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

DETECTOR = "detector"
"""The parameter of a public model that has one, a ServedDetector in JSON."""
KNOWN, KNOWN_SCORE = "known", "known_score"
DETECTOR_INPUTS = ("vector", "reason")
DETECTOR_OUTPUTS = ("embedding", "error", KNOWN, KNOWN_SCORE)
"""Of the detector's own model: the first two are its inputs, passed on (why: `serving.triton.detector_step`)."""


@dataclass(frozen=True)
class ServedDetector:
    """What a client is told of a served detector.

    Attributes:
        kind: as `Detector.kind`.
        threshold: from which score on a picture is known.
        accept: share of known pictures that the threshold was made to accept.
    """

    kind: str
    threshold: float
    accept: float

    def to_parameter(self) -> str:
        """As it stands in the model's parameters."""
        return json.dumps(asdict(self))

    @classmethod
    def from_parameter(cls, text: str) -> ServedDetector:
        """The inverse; fields that a newer version adds are left out.

        Raises:
            ValueError: a field is missing or no number.
        """
        try:
            found = json.loads(text)
            return cls(str(found["kind"]), float(found["threshold"]), float(found["accept"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{DETECTOR} is {text!r:.80}") from error

    def reason(self, score: float, known: bool) -> str:
        """One line with both numbers."""
        word = "at least" if known else "below"
        share = f"which {self.accept:.0%} of known pictures reach"
        return f"{self.kind} score {score:.4g}, {word} the threshold {self.threshold:.4g}, {share}"

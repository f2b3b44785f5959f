"""Detectors from trained mixtures: known pictures only set the threshold. `N` pictures, `D` embedding."""

from __future__ import annotations

from numpy.typing import ArrayLike

from .detector import Detector
from .kinds import TRAINED
from .threshold import find_threshold
from .trained import TrainedMixture
from .vectors import Centring, checked


def fit_trained(
    mixture: TrainedMixture,
    known: ArrayLike,
    *,
    classes: tuple[str, ...],
    accept: float = 0.95,
    num_fit: int = 0,
    fingerprint: str = "",
    model: str = "",
) -> Detector:
    """A detector of what a run of PALM learned.

    Args:
        mixture: as `protoclip.runs.palm.load_mixture` gives it.
        known: `[N, D]`, embeddings of known pictures that the run was not trained on, of any norm.
        classes: their names.
        accept: as of `fit_detector`.
        num_fit: pictures that it was trained on, where that is known.
        fingerprint: as of `fit_detector`.
        model: as of `fit_detector`.

    Raises:
        ConfigError: `accept` is out of range.
        DataError: another D, an embedding that is not finite or all zeros, or too few pictures for a threshold.
    """
    vectors = checked(known, mixture.dim)
    threshold = find_threshold(mixture.score(vectors), accept)
    centring = Centring.fit(vectors, enabled=False)
    kind = TRAINED[mixture.mixture.reading]
    return Detector(kind, mixture, centring, threshold, classes, num_fit, fingerprint, model)

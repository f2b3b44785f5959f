"""`protoclip detect fit --run`: a detector of what a run of PALM learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protoclip.contract.errors import ConfigError

from .entries import read_entries

if TYPE_CHECKING:
    from protoclip.detection.detector import Detector


def fit_from_run(
    run: Path,
    index: str,
    where: Sequence[str],
    *,
    kind: str | None,
    label: str | None,
    accept: float,
    centre: bool,
) -> Detector:
    """The run's prototypes, with a threshold by the entries of an index of its model.

    Raises:
        ConfigError: options that a trained mixture has no use for, a run that was not trained by PALM, or an index
            of another model.
        DataError, ModelError: as `read_entries`, `load_mixture` and `fit_trained`.
    """
    from export.graphs.fingerprint import fingerprint
    from protoclip.detection.fitting_trained import fit_trained
    from protoclip.detection.kinds import TRAINED
    from protoclip.runs.model import load_model
    from protoclip.runs.palm import load_mixture

    kind = kind or TRAINED["nearest"]
    reading = next((reading for reading, name in TRAINED.items() if name == kind), None)
    if reading is None:
        raise ConfigError(
            f"--kind {kind} is learned from the index: leave --run out, or use palm or palm_posterior"
        )
    if label is not None or centre:
        raise ConfigError(
            "--label and --centre are of no use with --run, whose classes were trained: leave them out"
        )
    classes, mixture = load_mixture(run, reading)
    own = fingerprint(load_model(run))
    known = read_entries(index, where)
    if known.fingerprint != own:
        raise ConfigError(
            f"{index}: holds embeddings by {known.model} ({known.fingerprint[:12]}), and {run} is another model "
            f"({own[:12]}): export the run, and build the index with that artifact"
        )
    return fit_trained(
        mixture, known.vectors, classes=classes, accept=accept, fingerprint=known.fingerprint, model=known.model
    )

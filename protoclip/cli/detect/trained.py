"""`protoclip detect fit --run` and `--kind palm`: detectors of what PALM learned, in a run or from an index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protoclip.contract.errors import ConfigError
from protoclip.detection.kinds import TRAINED

from .entries import Entries, read_entries

if TYPE_CHECKING:
    from protoclip.detection.detector import Detector
    from protoclip.detection.mixture import Reading

TRAINED_KINDS = tuple(TRAINED.values())


def fit_from_run(
    run: Path,
    index: str,
    where: Sequence[str],
    *,
    kind: str | None,
    label: str | None,
    group_by: str | None,
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
    from protoclip.runs.model import load_model
    from protoclip.runs.palm import load_classes, load_mixture

    kind = kind or TRAINED["nearest"]
    if kind not in TRAINED_KINDS:
        raise ConfigError(
            f"--kind {kind} is learned from the index: leave --run out, or use palm or palm_posterior"
        )
    if label is not None or group_by is not None or centre:
        raise ConfigError(
            "--label, --group-by and --centre are of no use with --run, whose classes were trained: leave them out"
        )
    classes, mixture = load_mixture(run, _reading_of(kind))
    own = fingerprint(load_model(run))
    known = read_entries(index, where)
    if known.fingerprint != own:
        raise ConfigError(
            f"{index}: holds embeddings by {known.model} ({known.fingerprint[:12]}), and {run} is another model "
            f"({own[:12]}): export the run, and build the index with that artifact"
        )
    return fit_trained(
        mixture,
        known.vectors,
        classes=classes,
        accept=accept,
        num_fit=int((load_classes(run)[1] >= 0).sum()),
        fingerprint=known.fingerprint,
        model=known.model,
    )


def fit_head(
    known: Entries,
    labels: Sequence[str] | None,
    kind: str,
    *,
    groups: Sequence[str] | None,
    accept: float,
    per_class: int,
    centre: bool,
    seed: int,
) -> Detector:
    """A head and prototypes, trained on the entries of an index.

    Raises:
        ConfigError: no labels, or options that it has no use for.
        DataError: as `fit_palm_head`.
    """
    if labels is None:
        raise ConfigError(
            f"--kind {kind} keeps classes apart: name the field of the metadata with them by --label"
        )
    if centre:
        raise ConfigError(f"--centre is of no use to --kind {kind}, whose head learns it: leave it out")
    from protoclip.training.palm_head import fit_palm_head

    return fit_palm_head(
        known.vectors,
        labels,
        reading=_reading_of(kind),
        accept=accept,
        per_class=per_class,
        seed=seed,
        groups=groups,
        fingerprint=known.fingerprint,
        model=known.model,
    )


def _reading_of(kind: str) -> Reading:
    return next(reading for reading, name in TRAINED.items() if name == kind)

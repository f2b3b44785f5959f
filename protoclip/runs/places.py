"""Where the weights of a run lie: of the finished run, or of a checkpoint that is named or taken in its place."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from protoclip.contract.errors import ModelError
from protoclip.encoders.model import WEIGHTS_FILE
from protoclip.encoders.weights import OPEN_CLIP_CONFIG_FILE

from .files import BEST_FOLDER, CHECKPOINTS_FOLDER, CONFIG_FILE, load_run_config

LAST = "last"
_STEP = re.compile(r"step_(\d+)")
_GO_ON = "go on with `protoclip train … --resume`"


@dataclass(frozen=True)
class Weights:
    """Weights of a run.

    Attributes:
        run: its folder, with the configuration.
        folder: where the weights are, a model folder of open_clip's kind.
        step: of the checkpoint; None for the finished run.
        in_place_of_end: the run was named, but is not finished.
    """

    run: Path
    folder: Path
    step: int | None = None
    in_place_of_end: bool = False

    @property
    def name(self) -> str:
        """As evaluations, verdicts and manifests name it: `shop`, or `shop at step 400`."""
        name = self.run.resolve().name
        return name if self.step is None else f"{name} at step {self.step}"

    @property
    def warning(self) -> str:
        """What to say where `in_place_of_end`."""
        kind = "best" if self.folder.parent.name == BEST_FOLDER else "last"
        return (
            f"{self.run}: the run is not finished: its {kind} checkpoint is taken, step {self.step}; {_GO_ON}, "
            f"or name {self.run / BEST_FOLDER} or {self.run / LAST}"
        )


def find_weights(source: str | Path) -> Weights | None:
    """The weights that `source` names; None where it is not in a run's folder.

    Args:
        source: a run; its `best` or `last`, or one of its checkpoints, such as `checkpoints/step_400`. A run that
            is not finished stands for its best checkpoint, where it has measured one and is going to keep it, and
            else for its last.

    Raises:
        ModelError: there is no such checkpoint, none at all, or the run's configuration can't be read.
    """
    path = Path(source)
    if (path / CONFIG_FILE).is_file() and (path / WEIGHTS_FILE).is_file():
        return Weights(path, path)
    if (path / CONFIG_FILE).is_file():
        return _unfinished(path)
    if path.name in (BEST_FOLDER, LAST) and (path.parent / CONFIG_FILE).is_file():
        found = _best(path.parent) if path.name == BEST_FOLDER else _last(path.parent)
        return _checked(found or _missing(path.parent, path.name))
    return _named_step(path)


def _unfinished(run: Path) -> Weights:
    config = load_run_config(run)
    found = _best(run) if config.validation.keep == "best" else None
    found = found or _last(run)
    if found is None:
        raise ModelError(f"{run}: ended before its first checkpoint, so it has no weights yet: {_GO_ON}")
    return _checked(Weights(found.run, found.folder, found.step, in_place_of_end=True))


def _named_step(path: Path) -> Weights | None:
    number = _STEP.fullmatch(path.name)
    run = path.parent.parent
    if (
        number is None
        or path.parent.name not in (CHECKPOINTS_FOLDER, BEST_FOLDER)
        or not (run / CONFIG_FILE).is_file()
    ):
        return None
    steps = _steps(path.parent)
    if int(number[1]) not in steps:
        there = ", ".join(map(str, sorted(steps))) or "none"
        raise ModelError(f"{path}: no such checkpoint: {path.parent} holds the steps {there}")
    return _checked(Weights(run, steps[int(number[1])], int(number[1])))


def _best(run: Path) -> Weights | None:
    """Of those that are kept, the one that measured best; an equal later one is no better."""
    steps = _steps(run / BEST_FOLDER)
    values = {step: _measured(folder) for step, folder in steps.items()}
    best = max(sorted(values), key=lambda step: values[step], default=None)
    return None if best is None else Weights(run, steps[best], best)


def _measured(folder: Path) -> float:
    path = folder / "validation.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["value"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: can't be read: name another checkpoint, {LAST} say") from error


def _last(run: Path) -> Weights | None:
    steps = _steps(run / CHECKPOINTS_FOLDER)
    return Weights(run, steps[max(steps)], max(steps)) if steps else None


def _steps(folder: Path) -> dict[int, Path]:
    found = ((_STEP.fullmatch(path.name), path) for path in folder.glob("step_*"))
    return {int(number[1]): path for number, path in found if number is not None}


def _missing(run: Path, name: str) -> Weights:
    reason = "nothing was validated yet" if name == BEST_FOLDER else "no checkpoint was saved yet"
    raise ModelError(f"{run / name}: {reason}: name {run} itself, or {_GO_ON}")


def _checked(found: Weights) -> Weights:
    if not (found.folder / OPEN_CLIP_CONFIG_FILE).is_file():
        there = found.run / OPEN_CLIP_CONFIG_FILE
        way_out = f"copy {there} into it" if there.is_file() else f"{_GO_ON}, which saves anew"
        raise ModelError(f"{found.folder}: saved by an earlier version, without {there.name}: {way_out}")
    return found

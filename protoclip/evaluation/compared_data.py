"""What models are compared on: data that is named, or a part of a run's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from protoclip.contract.errors import ConfigError
from protoclip.runs.files import CONFIG_FILE, load_run_config
from protoclip.runs.places import find_weights
from protoclip.runs.rows import rows_at_first
from protoclip.sources import Pairs, ReadOptions, read_pairs

from .run import run_subsets


@dataclass(frozen=True)
class ComparedData:
    """Pairs, their name for people, and the columns that a run names; none without a run.

    Attributes:
        train: the run's training pairs, where probes are to be fitted on them.
    """

    pairs: Pairs
    name: str
    group_column: str | None = None
    class_columns: tuple[str, ...] = ()
    train: Pairs | None = None


def choose_data(
    sources: Sequence[str], data: ReadOptions | None, part: str | None = None, *, probes: bool = False
) -> ComparedData:
    """The data that is named, or a part of the first run among the models.

    A run's group and class columns are taken where the data has them.

    Args:
        sources: models, as they are named.
        data: what to measure on; None: the first run's own.
        part: of the run's own data; None: the first that it was not trained on, or its training pairs.
        probes: also the run's training pairs, for probes.

    Raises:
        ConfigError: no data is named and no model is a run, there is no such part, or probes are asked for without
            a run, or on what they would be fitted on.
        DataError: the data can't be read.
    """
    run = next((found for source in sources if (found := _run_of(source)) is not None), None)
    if data is not None and part is not None:
        raise ConfigError(f"--part {part}: --data is one part: choose rows with --split")
    if run is None and probes:
        raise ConfigError("--probes are fitted on a run's training pairs, and none of the models is a run")
    if data is not None:
        pairs, name = read_pairs(data), ", ".join(data.paths)
        if run is None:
            return ComparedData(pairs, name)
        of_run = _with_columns(pairs, name, run)
        return replace(of_run, train=_subsets(run)[0]) if probes else of_run
    if run is None:
        raise ConfigError("none of the models is a run with data of its own: name the data with --data")
    train, subsets = _subsets(run)
    if part is not None and part not in subsets:
        raise ConfigError(f"--part {part}: {run} has {', '.join(subsets)}")
    chosen = part or next((name for name, pairs in subsets.items() if pairs is not train), next(iter(subsets)))
    is_train = subsets[chosen] is train
    if is_train and probes:
        raise ConfigError(
            f"--probes: part {chosen} of {run} is what they are fitted on: name other data or another"
        )
    trained = ", which was trained on" if is_train else ""
    own = _with_columns(subsets[chosen], f"part {chosen} of {run}{trained}", run)
    return replace(own, train=train) if probes else own


def _subsets(run: Path) -> tuple[Pairs, dict[str, Pairs]]:
    return run_subsets(load_run_config(run), first=rows_at_first(run))


def _run_of(source: str) -> Path | None:
    path = Path(source)
    if (path / CONFIG_FILE).is_file():
        return path
    found = find_weights(path)
    return None if found is None else found.run


def _with_columns(pairs: Pairs, name: str, run: Path) -> ComparedData:
    config = load_run_config(run)
    group = config.data.group_column
    classes = tuple(column for column in config.evaluation.class_columns if column in pairs.columns)
    return ComparedData(pairs, name, group if group in pairs.columns else None, classes)

"""What models are compared on: data that is named, or a part of a run's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protoclip.contract.errors import ConfigError
from protoclip.runs.files import CONFIG_FILE, load_run_config
from protoclip.runs.places import find_weights
from protoclip.runs.rows import rows_at_first
from protoclip.sources import Pairs, ReadOptions, read_pairs

from .run import run_subsets


@dataclass(frozen=True)
class ComparedData:
    """Pairs, their name for people, and the columns that a run names; none without a run."""

    pairs: Pairs
    name: str
    group_column: str | None = None
    class_columns: tuple[str, ...] = ()


def choose_data(sources: Sequence[str], data: ReadOptions | None, part: str | None = None) -> ComparedData:
    """The data that is named, or a part of the first run among the models.

    A run's group and class columns are taken where the data has them.

    Args:
        sources: models, as they are named.
        data: what to measure on; None: the first run's own.
        part: of the run's own data; None: the first that it was not trained on, or its training pairs.

    Raises:
        ConfigError: no data is named and no model is a run, or there is no such part.
        DataError: the data can't be read.
    """
    run = next((found for source in sources if (found := _run_of(source)) is not None), None)
    if data is not None and part is not None:
        raise ConfigError(f"--part {part}: --data is one part: choose rows with --split")
    if data is not None:
        pairs, name = read_pairs(data), ", ".join(data.paths)
        return ComparedData(pairs, name) if run is None else _with_columns(pairs, name, run)
    if run is None:
        raise ConfigError("none of the models is a run with data of its own: name the data with --data")
    train, subsets = run_subsets(load_run_config(run), first=rows_at_first(run))
    if part is not None and part not in subsets:
        raise ConfigError(f"--part {part}: {run} has {', '.join(subsets)}")
    chosen = part or next((name for name, pairs in subsets.items() if pairs is not train), next(iter(subsets)))
    trained = ", which was trained on" if subsets[chosen] is train else ""
    return _with_columns(subsets[chosen], f"part {chosen} of {run}{trained}", run)


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

"""Settings from the data itself, for a run that has no configuration file.

`N` training pairs, `B` batch, `m` pairs in an episode, `K` prototypes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from protoclip.config.load import build_config
from protoclip.config.schema import DataConfig, EpisodeConfig, RunConfig
from protoclip.config.settings import assign, read_settings, setting_origins
from protoclip.contract.errors import ConfigError
from protoclip.data.find_group import find_group, named_group
from protoclip.data.groups import group_numbers
from protoclip.data.holdout import split_pairs
from protoclip.data.table import load_pairs, read_options, training_pairs
from protoclip.distributed.devices import has_bf16
from protoclip.sources import Pairs, ReadOptions
from protoclip.sources.files import is_address
from protoclip.sources.names import (
    IMAGE_NAMES,
    SPLIT_NAMES,
    TEXT_NAMES,
    TRAIN_VALUES,
    VALIDATION_VALUES,
    find_column,
)
from protoclip.sources.options import ALL_SPLITS
from protoclip.sources.part import CLASS
from protoclip.sources.read import column_names, name_of_column

from .choices import Choice, given_besides, value_of

SMALL_MODEL = "protoclip-mini-48"
_WANTED_STEPS = 1000
_GROUPS_TO_VALIDATE = 50
_OBJECTIVE, _PALM = "loss.objective", "palm"


class _Settings:
    """Settings as a nested dictionary; the user's values take precedence over suggested ones.

    `origins`, as `setting_origins` gives them, are those of the user's values.
    """

    def __init__(self, values: dict[str, Any], origins: dict[str, str]) -> None:
        self.values, self.origins = values, origins
        self.choices: list[Choice] = []

    def get(self, setting: str) -> Any:
        return value_of(self.values, setting)

    def offer(self, setting: str, value: Any, reason: str) -> Any:
        if setting in self.origins or self.get(setting) is not None:
            value, reason = self.get(setting), self.origins.get(setting, "as set")
        elif value is not None:
            assign(self.values, setting, value)
        self.choices.append(Choice(setting, value, reason))
        return value


def config_from_data(
    path: str | Path, overrides: Iterable[str] = (), *, preset: str | None = None, file: Path | None = None
) -> tuple[RunConfig, tuple[Choice, ...]]:
    """A complete configuration for the pairs in `path`, and every setting that is no default, with its origin.

    Args:
        path: a table, a folder of tables, a folder with a captions file, or class folders.
        overrides: `section.field=value`; they take precedence over all else.
        preset: settings that take precedence over every choice, but over neither overrides nor file.
        file: TOML or JSON, as for `load_config`; its settings take precedence over every choice, except
            `data.path`, in whose place `path` is read.

    Raises:
        ConfigError: columns that can't be identified, or too little data for a batch; says what to do.
        DataError: the data can't be read.
    """
    overrides = tuple(overrides)
    origins = setting_origins(file, overrides, preset)
    if origins.get("data.path") == "--set":
        raise ConfigError("data.path: give the data by --data or by --set data.path, not by both")
    settings = _Settings(read_settings(file, [*overrides, "data.path=none"], preset), origins)
    in_place_of = origins.pop("data.path", None)
    pairs = _choose_columns(str(path), settings)
    _choose_validation(pairs, settings)
    _choose_model(settings)
    if settings.get("train.device") != "cpu" and has_bf16():
        settings.offer("train.precision", "bf16", "the GPU here computes in it")
    _choose_sizes(split_pairs(pairs, _known(settings))[0], settings)
    if in_place_of is not None:
        place = next(number for number, choice in enumerate(settings.choices) if choice.setting == "data.path")
        settings.choices[place] = replace(
            settings.choices[place], reason=f"--data, in place of that in {in_place_of}"
        )
    config = build_config(settings.values, f"--data {path}" if file is None else f"{file} with --data {path}")
    return config, (*settings.choices, *given_besides(settings.choices, settings.values, origins))


def _choose_columns(path: str, settings: _Settings) -> Pairs:
    settings.offer("data.path", [path if is_address(path) else str(Path(path).resolve())], "--data")
    options = replace(read_options(_data_config(settings)), keep_splits=True)
    names = column_names(options)
    for setting, known, many in (("image_column", IMAGE_NAMES, False), ("text_columns", TEXT_NAMES, True)):
        given = settings.get(f"data.{setting}")
        found = given or _column(names, known, setting, options, settings)
        settings.offer(f"data.{setting}", [found] if many and not given else found, "by its name")
    _choose_split(names, settings)
    data = _data_config(settings)
    # Rows of one picture in two groups stay apart: the group has to be known before they are read.
    group = named_group(names) if CLASS not in names and data.group_column is None else data.group_column
    pairs = load_pairs(data.model_copy(update={"group_column": group}))
    if len(pairs) < pairs.num_read - len(pairs.left_out):
        settings.choices.append(
            Choice("pairs", len(pairs), f"of {pairs.num_read} rows: rows of a picture are its texts")
        )
    if settings.get(_OBJECTIVE) == _PALM:
        found_group: tuple[str | None, str] = (None, "pictures of a class meet in a batch")
    else:
        found = find_group(training_pairs(pairs, data), data.image_column, data.text_columns)
        found_group = found or (None, "no picture or text repeats")
    settings.offer("data.group_column", *found_group)
    if CLASS in names:
        settings.offer("evaluation.class_columns", [CLASS], "by its name")
    return load_pairs(_data_config(settings))


def _column(
    names: Sequence[str], known: Sequence[str], setting: str, options: ReadOptions, settings: _Settings
) -> str:
    try:
        return find_column(names, known, setting)
    except ConfigError:
        # Pictures with classes need no captions: their class is one.
        of_class = settings.get("data.class_column")
        if setting == "text_columns" and settings.get(_OBJECTIVE) == _PALM and of_class in names:
            return str(of_class)
        # It looks at each table, and says so where they call theirs by different names.
        return name_of_column(options, known, setting)


def _choose_split(names: Sequence[str], settings: _Settings) -> None:
    """The column that says the split, where one of its values is trained on."""
    column = next((name for name in names if name.lower() in SPLIT_NAMES), None)
    if column is None or "data.split_column" in settings.origins or settings.get("data.train_split") == ALL_SPLITS:
        return
    data = _data_config(settings).model_copy(update={"split_column": column})
    values = {str(value) for value in np.unique(load_pairs(data).column(column))} - {""}
    for value in TRAIN_VALUES:
        if value in values:
            settings.offer("data.split_column", column, "by its name")
            settings.offer("data.train_split", value, f"a value of {column}")
            return
    if len(values) > 1 and settings.get("data.train_split") is None:
        first = sorted(values)[0]
        raise ConfigError(
            f"data.split_column: the column {column} holds {', '.join(sorted(values))}, and none of them is "
            f"called "
            f"train: say --set data.split_column={column} --set data.train_split={first}, or --set "
            f"data.train_split={ALL_SPLITS} for all rows"
        )


def _choose_validation(pairs: Pairs, settings: _Settings) -> None:
    if settings.get("validation.split") is not None or settings.get("validation.fraction") is not None:
        return
    if settings.get(_OBJECTIVE) == _PALM:
        settings.offer("validation.fraction", 0.0, "validation is by texts, which palm does not train")
        return
    split, group = settings.get("data.split_column"), settings.get("data.group_column")
    found = [] if split is None else [value for value in VALIDATION_VALUES if value in pairs.column(split)]
    if found:
        settings.offer("validation.split", found[0], f"a value of {split}")
        return
    train = training_pairs(pairs, _data_config(settings))
    num_groups = len(train) if group is None else len(_group_sizes(train, group) or ())
    if group == CLASS:
        settings.offer("validation.fraction", 0.0, "would take whole classes out of training")
    elif num_groups < _GROUPS_TO_VALIDATE:
        settings.offer("validation.fraction", 0.0, f"too few: {num_groups} rows or groups")
    else:
        settings.offer("validation.fraction", 0.1, "of the rows or groups")


def _choose_model(settings: _Settings) -> None:
    if settings.get("model.weights") is not None and settings.get("model.name") is None:
        raise ConfigError("model.weights: say whose they are, like --set model.name=ViT-B-32")
    if settings.offer("model.name", SMALL_MODEL, "small, trains on a CPU") != SMALL_MODEL:
        return
    settings.offer("model.head.hidden_dim", 256, "small like the model")
    settings.offer("model.head.projection_dim", 64, "small like the model")
    settings.offer("optim.learning_rate", 2e-3, "small model, random start")
    settings.offer("optim.weight_decay", 0.1, "small model, random start")
    settings.offer("train.num_workers", 0, "small pictures")


def _choose_sizes(pairs: Pairs, settings: _Settings) -> None:
    groups = _group_sizes(pairs, settings.get("data.group_column"))
    batch_size = int(_number(settings.offer("train.batch_size", *_batch_size(len(pairs), groups, settings))))
    num_batches = max(1, len(pairs) // batch_size)
    repeats = min(10, math.ceil(40 / num_batches))
    settings.offer("episode.repeats", repeats, f"{num_batches} batches hold all {len(pairs)} pairs")
    if settings.get(_OBJECTIVE) != _PALM:
        _choose_prototypes(num_batches, batch_size, groups, settings)
    _choose_length(num_batches, settings)


def _choose_prototypes(
    num_batches: int, batch_size: int, groups: Mapping[str, int] | None, settings: _Settings
) -> None:
    size = settings.get("episode.size") or EpisodeConfig().size
    in_episode = min(num_batches * batch_size, int(_number(size)) // batch_size * batch_size)
    prototypes = max(2, min(in_episode // 10, len(groups) if groups else in_episode))
    settings.offer("clustering.num_prototypes", prototypes, "a tenth of an episode, at most one a group")


def _choose_length(num_batches: int, settings: _Settings) -> None:
    if settings.get("train.passes") is not None:
        steps = math.ceil(_number(settings.offer("train.passes", None, "")) * num_batches)
    else:
        steps = min(max(_WANTED_STEPS, 10 * num_batches), 100 * num_batches)
        steps = int(_number(settings.offer("train.steps", steps, "between 10 and 100 passes")))
    settings.offer("optim.warmup_steps", min(500, steps // 10), "a tenth of the steps")
    if settings.get("validation.split") is not None or settings.get("validation.fraction"):
        settings.offer("validation.every_steps", max(1, steps // 10), "ten times")


def _batch_size(num_pairs: int, groups: Mapping[str, int] | None, settings: _Settings) -> tuple[int, str]:
    preferred = 256 if settings.get("model.name") == SMALL_MODEL else 128
    wanted = min(preferred, 2 ** int(math.log2(max(2, num_pairs // 8))))
    if groups is None:
        return wanted, f"for {num_pairs} pairs"
    common = max(groups, key=lambda name: groups[name])
    largest = num_pairs // groups[common]
    column = settings.get("data.group_column")
    if largest < 2 and settings.get("train.batch_size") is None:
        raise ConfigError(
            f"data.group_column={column}: {common!r} has {groups[common]} of {num_pairs} pairs, so no batch could "
            "hold it once only: give more of the others, or --set data.group_column=none"
        )
    if largest >= wanted:
        return wanted, f"for {num_pairs} pairs"
    reason = f"a batch holds each {column} at most once, and {common!r} has {groups[common]} of {num_pairs} pairs"
    return largest, reason


def _group_sizes(pairs: Pairs, column: str | None) -> dict[str, int] | None:
    if column is None:
        return None
    values, numbers = pairs.column(column), group_numbers(pairs.column(column))
    _, first, counts = np.unique(numbers, return_index=True, return_counts=True)
    names = [str(values[row]) if str(values[row]).strip() else f"row {row}" for row in first]
    return dict(zip(names, counts.tolist(), strict=True))


def _number(value: Any) -> float:
    """A number that the user may have set; anything else is left to the configuration's validation."""
    return value if isinstance(value, int | float) and value > 0 else 1


def _data_config(settings: _Settings) -> DataConfig:
    return _known(settings).data


def _known(settings: _Settings) -> RunConfig:
    """A configuration with the settings that select the pairs; the rest are defaults."""
    seed = settings.get("train.seed")
    values = {
        "data": settings.values["data"],
        "validation": settings.values.get("validation", {}),
        "train": {"steps": 1} | ({} if seed is None else {"seed": seed}),
    }
    return build_config(values, "--data")

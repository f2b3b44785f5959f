"""Checkpoints: safetensors and JSON in one folder each, written atomically."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from protoclip.contract.errors import ModelError
from protoclip.contract.files import atomic_path
from protoclip.contract.picture_folders import Skipped
from protoclip.data.left_out import as_json, from_json
from protoclip.distributed import collectives
from protoclip.encoders.weights import OPEN_CLIP_CONFIG_FILE
from protoclip.prototypes.heads import Heads
from protoclip.prototypes.targets import EpisodeTargets
from protoclip.runs.files import BEST_FOLDER, CHECKPOINTS_FOLDER

from .optim import named_parameters
from .tensor_files import contiguous, load_weights, save_tensors, save_weights

logger = logging.getLogger(__name__)

_BANK_FILE = "bank.safetensors"
_LEFT_OUT_FILE = "left_out.json"
_DAMAGE = (OSError, KeyError, TypeError, RuntimeError, ValueError, SafetensorError)
_RANDOM_STATE = "random_state"
_GPU_RANDOM_STATE = "gpu_random_state"


@dataclass(frozen=True)
class Position:
    """A run's progress: `step` optimiser steps done, `batch` of them in `episode`."""

    step: int = 0
    episode: int = 0
    batch: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class TrainState:
    """What a step updates."""

    module: nn.Module
    heads: Heads
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds besides a `TrainState`.

    Attributes:
        bank: as `FeatureSource.tensors` returned it.
        random: as `random_states` returned it.
        left_out: the pairs whose pictures were found broken so far, by their index.
    """

    position: Position
    targets: EpisodeTargets | None
    bank: dict[str, Tensor]
    random: dict[str, Tensor]
    left_out: dict[int, Skipped] = field(default_factory=dict)


def random_states() -> dict[str, Tensor]:
    """The states of every rank's global generators, one row per rank: of the CPU and of its GPU, if it has one."""
    states = {_RANDOM_STATE: collectives.gather_rows(torch.get_rng_state())}
    if torch.cuda.is_available():
        states[_GPU_RANDOM_STATE] = collectives.gather_rows(torch.cuda.get_rng_state())
    return states


def save_checkpoint(run: Path, snapshot: Snapshot, state: TrainState, keep: int) -> Path:
    """Writes `checkpoints/step_…` atomically and removes all but the last `keep`.

    Raises:
        ProtoclipError: the disk is full; the older checkpoints stay.
    """
    folder = run / CHECKPOINTS_FOLDER / _step_name(snapshot.position.step)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        save_weights(temporary, state.module, state.heads, snapshot.targets)
        save_tensors(_optimizer_tensors(state) | snapshot.random, temporary / "optimizer.safetensors")
        if snapshot.bank:
            save_tensors(contiguous(snapshot.bank), temporary / _BANK_FILE)
        (temporary / "position.json").write_text(json.dumps(dataclasses.asdict(snapshot.position)))
        if snapshot.left_out:
            (temporary / _LEFT_OUT_FILE).write_text(as_json(snapshot.left_out))
        _describe(run, temporary)
    _remove(_checkpoints(run)[:-keep])
    return folder


def save_best(
    run: Path, measured: dict[str, Any], module: nn.Module, heads: Heads, targets: EpisodeTargets | None
) -> None:
    """Writes `best/step_…`: weights, targets, and what was measured, with its `step`.

    Raises:
        ProtoclipError: the disk is full; the previous best stays.
    """
    with atomic_path(run / BEST_FOLDER / _step_name(measured["step"])) as temporary:
        temporary.mkdir()
        save_weights(temporary, module, heads, targets)
        (temporary / "validation.json").write_text(json.dumps(measured))
        _describe(run, temporary)


def keep_best(run: Path, steps: Iterable[int]) -> None:
    """Removes all of `best/` but the given steps.

    The best step as of the last checkpoint must stay until the next one: a run resumed from there needs it.
    """
    kept = {_step_name(step) for step in steps}
    _remove([folder for folder in (run / BEST_FOLDER).glob("*step_*") if folder.name not in kept])


def load_best(run: Path, step: int, module: nn.Module, heads: Heads) -> EpisodeTargets | None:
    """Loads the weights that were best, measured after `step`, and returns their targets.

    Raises:
        ModelError: a file is missing or damaged.
    """
    folder = run / BEST_FOLDER / _step_name(step)
    try:
        return load_weights(folder, module, heads)
    except _DAMAGE as error:
        raise ModelError(f"{folder}: can't be read: {_first_line(error)}: set validation.keep=last") from error


def last_checkpoint(run: Path) -> Path | None:
    """The folder of the latest checkpoint of a run, or None."""
    return next(reversed(_checkpoints(run)), None)


def last_position(run: Path) -> Position | None:
    """That of the latest checkpoint of a run; None where there is none, or it is damaged."""
    folder = last_checkpoint(run)
    if folder is None:
        return None
    try:
        return _load_position(folder)
    except _DAMAGE:
        return None


def next_episode(run: Path) -> int:
    """The first episode that the latest checkpoint whose position can be read holds nothing of.

    Raises:
        ModelError: no position can be read.
    """
    for folder in reversed(_checkpoints(run)):
        try:
            position = _load_position(folder)
        except _DAMAGE:
            continue
        return position.episode + (position.batch > 0)
    raise ModelError(f"{run / CHECKPOINTS_FOLDER}: no position can be read: train anew, with another --out")


def restore_last(run: Path, state: TrainState) -> Snapshot | None:
    """Restores everything from the last checkpoint that can be read; None where there is none.

    The first rank lists the checkpoints. Generator states are restored only on the same number of ranks. Where
    a later checkpoint is damaged on any rank, a warning says so, and its folder is renamed to `damaged_…`.

    Raises:
        ModelError: there are checkpoints, but none can be read.
    """
    collectives.on_first(lambda: _remove(list((run / CHECKPOINTS_FOLDER).glob(".step_*"))))
    damaged: list[Path] = []
    reason = "on another rank: every host must see the same folder"
    found = [int(folder.name.removeprefix("step_")) for folder in _checkpoints(run)]
    steps = collectives.from_first(np.array(found, dtype=np.int64)).tolist()
    for folder in (run / CHECKPOINTS_FOLDER / _step_name(step) for step in reversed(steps)):
        snapshot = None
        try:
            snapshot = _load_checkpoint(folder, state)
        except _DAMAGE as error:
            reason = _first_line(error)
        if not any(collectives.largest(int(snapshot is None))):
            collectives.on_first(lambda: _set_aside(damaged))
            return snapshot
        damaged.append(folder)
    if damaged:
        raise ModelError(f"{damaged[-1]}: can't be resumed from: {reason}: train anew, with another --out")
    return None


def _load_checkpoint(folder: Path, state: TrainState) -> Snapshot:
    targets = load_weights(folder, state.module, state.heads)
    tensors = load_file(folder / "optimizer.safetensors")
    random = {name: tensors.pop(name) for name in (_RANDOM_STATE, _GPU_RANDOM_STATE) if name in tensors}
    bank = load_file(folder / _BANK_FILE) if (folder / _BANK_FILE).exists() else {}
    position, left_out = _load_position(folder), _load_left_out(folder)
    _restore_random(random)
    _restore_optimizer(state, tensors)
    return Snapshot(position, targets, bank, random, left_out)


def _load_position(folder: Path) -> Position:
    return Position(**json.loads((folder / "position.json").read_text()))


def _load_left_out(folder: Path) -> dict[int, Skipped]:
    """Empty where nothing was found, and in a checkpoint of an earlier version."""
    path = folder / _LEFT_OUT_FILE
    return from_json(path.read_text()) if path.exists() else {}


def _set_aside(damaged: list[Path]) -> None:
    for folder in damaged:
        logger.warning("%s is damaged: going on from the checkpoint before", folder)
        folder.rename(folder.with_name(f"damaged_{folder.name}"))


def _checkpoints(run: Path) -> list[Path]:
    found = (run / CHECKPOINTS_FOLDER).glob("step_*")
    return sorted(folder for folder in found if folder.name.removeprefix("step_").isdecimal())


def _describe(run: Path, folder: Path) -> None:
    """Makes a checkpoint a model folder that open_clip loads, as the run's own is."""
    shutil.copyfile(run / OPEN_CLIP_CONFIG_FILE, folder / OPEN_CLIP_CONFIG_FILE)


def _step_name(step: int) -> str:
    return f"step_{step:08d}"


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    tensors = {}
    for name, parameter in named_parameters(state.module, state.heads):
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"{name}:{key}"] = value.detach().contiguous()
    return tensors


def _restore_random(states: dict[str, Tensor]) -> None:
    rows, gpu_rows = states[_RANDOM_STATE], states.get(_GPU_RANDOM_STATE)
    if len(rows) != collectives.world_size():
        return
    torch.set_rng_state(rows[collectives.rank()].clone())
    if gpu_rows is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(gpu_rows[collectives.rank()].clone())


def _restore_optimizer(state: TrainState, tensors: dict[str, Tensor]) -> None:
    parameters = dict(named_parameters(state.module, state.heads))
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition(":")
        parameter = parameters[name]
        state.optimizer.state[parameter][key] = value.to(parameter.device)

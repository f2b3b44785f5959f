"""Checkpoints: safetensors and JSON in a folder of their own, written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import distributed
from .contract.errors import ModelError, ProtoclipError
from .contract.files import atomic_path
from .heads import Heads
from .losses import Target
from .optim import named_parameters
from .prototypes import Clusters, EpisodeTargets, ExternalClusters

FOLDER = "checkpoints"
BEST_FOLDER = "best"
_RANDOM_STATE = "random_state"
_GPU_RANDOM_STATE = "gpu_random_state"


@dataclass(frozen=True)
class Position:
    """Where a run stands: `step` optimiser steps done, `batch` of them in `episode`."""

    step: int = 0
    episode: int = 0
    batch: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class TrainState:
    """What a step changes."""

    module: nn.Module
    heads: Heads
    optimizer: torch.optim.Optimizer


def random_states() -> dict[str, Tensor]:
    """The states of every rank's random numbers, a row each: of the CPU and, where there is one, of its GPU."""
    states = {_RANDOM_STATE: distributed.gather_rows(torch.get_rng_state())}
    if torch.cuda.is_available():
        states[_GPU_RANDOM_STATE] = distributed.gather_rows(torch.cuda.get_rng_state())
    return states


def save_checkpoint(
    run: Path,
    position: Position,
    state: TrainState,
    targets: EpisodeTargets | None,
    random: dict[str, Tensor],
    keep: int,
) -> Path:
    """Writes `checkpoints/step_…` atomically and removes all but the last `keep`.

    Args:
        random: what `random_states` gave.

    Raises:
        ProtoclipError: the disk is full; the older checkpoints stay.
    """
    folder = run / FOLDER / f"step_{position.step:08d}"
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        _save_weights(temporary, state.module, state.heads, targets)
        save_tensors(_optimizer_tensors(state) | random, temporary / "optimizer.safetensors")
        (temporary / "position.json").write_text(json.dumps(dataclasses.asdict(position)))
    for old in sorted((run / FOLDER).glob("step_*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def save_best(
    run: Path, measured: dict[str, Any], module: nn.Module, heads: Heads, targets: EpisodeTargets | None
) -> None:
    """Replaces `best/` atomically: weights, targets, and what was measured.

    Raises:
        ProtoclipError: the disk is full; the former best stays.
    """
    with atomic_path(run / BEST_FOLDER) as temporary:
        temporary.mkdir()
        _save_weights(temporary, module, heads, targets)
        (temporary / "validation.json").write_text(json.dumps(measured))


def load_best(run: Path, module: nn.Module, heads: Heads) -> EpisodeTargets | None:
    """Puts the weights of `best/` in place and returns their targets.

    Raises:
        ModelError: a file is missing or damaged.
    """
    try:
        return _load_weights(run / BEST_FOLDER, module, heads)
    except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
        first_line = str(error).splitlines()[0]
        raise ModelError(f"{run / BEST_FOLDER}: can't be read: {first_line}: set validation.keep=last") from error


def last_checkpoint(run: Path) -> Path | None:
    """The folder of the latest checkpoint of a run, or None."""
    found = sorted((run / FOLDER).glob("step_*"))
    return found[-1] if found else None


def load_checkpoint(folder: Path, state: TrainState) -> tuple[Position, EpisodeTargets | None]:
    """Puts everything back in place, random states included; these only on as many ranks as there were.

    Raises:
        ModelError: a file is missing or damaged, or belongs to another model.
    """
    try:
        targets = _load_weights(folder, state.module, state.heads)
        tensors = load_file(folder / "optimizer.safetensors")
        _restore_random(tensors)
        _restore_optimizer(state, tensors)
        return Position(**json.loads((folder / "position.json").read_text())), targets
    except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
        first_line = str(error).splitlines()[0]
        raise ModelError(
            f"{folder}: can't be resumed from: {first_line}: remove it to use the one before"
        ) from error


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes a safetensors file; callers write to a temporary name.

    Raises:
        ProtoclipError: the disk is full or the place can't be written.
    """
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise ProtoclipError(f"{path.name}: can't be written: {error}") from error


def _save_weights(folder: Path, module: nn.Module, heads: Heads, targets: EpisodeTargets | None) -> None:
    save_tensors(_contiguous(module.state_dict()), folder / "model.safetensors")
    save_tensors(_contiguous(heads.state_dict()), folder / "heads.safetensors")
    if targets is not None:
        save_tensors(_flatten(targets), folder / "targets.safetensors")


def _load_weights(folder: Path, module: nn.Module, heads: Heads) -> EpisodeTargets | None:
    device = str(next(module.parameters()).device)
    module.load_state_dict(load_file(folder / "model.safetensors"))
    heads.load_state_dict(load_file(folder / "heads.safetensors"))
    targets = folder / "targets.safetensors"
    return _unflatten(load_file(targets, device=device)) if targets.exists() else None


def _contiguous(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in state.items()}


def _optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    tensors = {}
    for name, parameter in named_parameters(state.module, state.heads):
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"{name}:{key}"] = value.detach().contiguous()
    return tensors


def _restore_random(tensors: dict[str, Tensor]) -> None:
    """Takes the random states out of `tensors`."""
    rows, gpu_rows = tensors.pop(_RANDOM_STATE), tensors.pop(_GPU_RANDOM_STATE, None)
    if len(rows) != distributed.world_size():
        return
    torch.set_rng_state(rows[distributed.rank()].clone())
    if gpu_rows is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(gpu_rows[distributed.rank()].clone())


def _restore_optimizer(state: TrainState, tensors: dict[str, Tensor]) -> None:
    parameters = dict(named_parameters(state.module, state.heads))
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition(":")
        parameter = parameters[name]
        state.optimizer.state[parameter][key] = value.to(parameter.device)


def _flatten(targets: EpisodeTargets) -> dict[str, Tensor]:
    tensors = {"number": torch.tensor(targets.number)}
    if targets.external is not None:
        tensors["external.labels"] = targets.external.labels
        tensors["external.num_clusters"] = torch.tensor(targets.external.num_clusters)
    for name in ("image_clusters", "text_clusters"):
        clusters: Clusters = getattr(targets, name)
        tensors |= {f"{name}.centroids": clusters.centroids, f"{name}.labels": clusters.labels}
    for name in ("image_from_text", "text_from_image", "image_from_external", "text_from_external"):
        target: Target | None = getattr(targets, name)
        if target is not None:
            tensors |= {f"{name}.student_prototypes": target.student_prototypes, f"{name}.valid": target.valid}
    # Cloned: without back translation two names share a tensor, which safetensors refuses.
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _unflatten(tensors: dict[str, Tensor]) -> EpisodeTargets:
    image, text = (
        Clusters(tensors[f"{name}.centroids"], tensors[f"{name}.labels"])
        for name in ("image_clusters", "text_clusters")
    )

    def target(name: str, centroids: Tensor | None) -> Target | None:
        if f"{name}.valid" not in tensors:
            return None
        return Target(tensors[f"{name}.student_prototypes"], tensors[f"{name}.valid"], centroids)

    external = None
    if "external.labels" in tensors:
        external = ExternalClusters(tensors["external.labels"], int(tensors["external.num_clusters"]))
    image_from_text, text_from_image = (
        target("image_from_text", text.centroids),
        target("text_from_image", image.centroids),
    )
    if image_from_text is None or text_from_image is None:
        raise KeyError("targets without a direction")
    return EpisodeTargets(
        number=int(tensors["number"]),
        image_clusters=image,
        text_clusters=text,
        image_from_text=image_from_text,
        text_from_image=text_from_image,
        external=external,
        image_from_external=target("image_from_external", None),
        text_from_external=target("text_from_external", None),
    )

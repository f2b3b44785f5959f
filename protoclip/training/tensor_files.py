"""Weights and targets of a run as safetensors files in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from protoclip.contract.errors import ProtoclipError
from protoclip.prototypes.heads import Heads
from protoclip.prototypes.target_tensors import targets_of_tensors, tensors_of_targets
from protoclip.prototypes.targets import EpisodeTargets


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes a safetensors file; callers write to a temporary name.

    Raises:
        ProtoclipError: the disk is full or `path` can't be written.
    """
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise ProtoclipError(f"{path.name}: can't be written: {error}") from error


def save_weights(folder: Path, module: nn.Module, heads: Heads, targets: EpisodeTargets | None) -> None:
    save_tensors(contiguous(module.state_dict()), folder / "model.safetensors")
    save_tensors(contiguous(heads.state_dict()), folder / "heads.safetensors")
    if targets is not None:
        save_tensors(tensors_of_targets(targets), folder / "targets.safetensors")


def load_weights(folder: Path, module: nn.Module, heads: Heads) -> EpisodeTargets | None:
    device = str(next(module.parameters()).device)
    module.load_state_dict(load_file(folder / "model.safetensors"))
    heads.load_state_dict(load_file(folder / "heads.safetensors"))
    targets = folder / "targets.safetensors"
    return targets_of_tensors(load_file(targets, device=device)) if targets.exists() else None


def contiguous(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in state.items()}

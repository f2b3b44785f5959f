"""A run's folder: what stands in it at the start and at the end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from .checkpoint import save_tensors
from .config import RunConfig
from .contract.errors import ConfigError, ModelError
from .contract.files import atomic_path, write_text
from .model import OPEN_CLIP_CONFIG_FILE, WEIGHTS_FILE, open_clip_folder_config
from .prototypes import EpisodeTargets
from .setup import Session

CONFIG_FILE = "config.json"
HEADS_FILE = "heads.safetensors"
PROTOTYPES_FILE = "prototypes.safetensors"


def check_run(config: RunConfig, run: Path, *, resume: bool) -> None:
    """Refuses a folder that this run may not fill.

    Raises:
        ConfigError: `run` holds another run and `resume` is off, or its configuration is another one.
    """
    if run.is_file():
        raise ConfigError(f"{run}: is a file: name a folder with --out")
    if not (run / CONFIG_FILE).exists():
        return
    if not resume:
        raise ConfigError(f"{run}: holds a run already: add --resume to go on, or name another folder with --out")
    if load_run_config(run) != config:
        raise ConfigError(f"{run}: its {CONFIG_FILE} differs from this configuration: resume without changes")


def start_run(config: RunConfig, run: Path) -> None:
    """Makes the folder and writes its configuration."""
    write_text(run / CONFIG_FILE, config.model_dump_json(indent=2) + "\n")


def load_run_config(run: Path) -> RunConfig:
    """The configuration that a run was made with.

    Raises:
        ModelError: `run` is not a run folder, or one of another version.
    """
    path = Path(run) / CONFIG_FILE
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except OSError:
        raise ModelError(f"{run}: no {CONFIG_FILE} here: name a folder that `protoclip train` wrote") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def finish_run(run: Path, session: Session, targets: EpisodeTargets | None) -> None:
    """Writes weights, prototypes and what open_clip needs; `model.safetensors` comes last."""
    _save(run / HEADS_FILE, state_tensors(session.heads))
    if targets is not None:
        _save(run / PROTOTYPES_FILE, _prototypes(session, targets))
    description = open_clip_folder_config(session.config.model.name, session.module)
    write_text(run / OPEN_CLIP_CONFIG_FILE, json.dumps(description, indent=2) + "\n")
    _save(run / WEIGHTS_FILE, state_tensors(session.module))


def state_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's state as contiguous CPU tensors."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def _prototypes(session: Session, targets: EpisodeTargets) -> dict[str, Tensor]:
    indices = session.plan.episode(targets.number).indices
    tensors: dict[str, Tensor] = {}
    for side, clusters in (("image", targets.image_clusters), ("text", targets.text_clusters)):
        labels = np.full(session.num_rows, -1, dtype=np.int64)
        labels[session.rows[indices]] = clusters.labels.cpu().numpy()
        tensors[f"centroids_{side}"] = clusters.centroids.cpu().contiguous()
        tensors[f"labels_{side}"] = torch.from_numpy(labels)
    return tensors


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_path(path) as temporary:
        save_tensors(tensors, temporary)

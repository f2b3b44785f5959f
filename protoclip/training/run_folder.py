"""A run's folder: its files at the start and at the end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError
from protoclip.contract.files import atomic_path, write_text
from protoclip.data.training_set import TrainingSet
from protoclip.encoders.loading import open_clip_folder_config
from protoclip.encoders.model import WEIGHTS_FILE
from protoclip.encoders.weights import OPEN_CLIP_CONFIG_FILE
from protoclip.prototypes.targets import EpisodeTargets
from protoclip.runs.files import (
    CONFIG_FILE,
    HEADS_FILE,
    PLAN_FILE,
    PROTOTYPES_FILE,
    TEACHER_LABELS_FILE,
    TRAINED_TOKENS_FILE,
)
from protoclip.runs.palm import store_classes
from protoclip.runs.rows import plan_text

from .resume import check_settings
from .rows import store_rows
from .session import Session
from .tensor_files import save_tensors


def check_run(config: RunConfig, run: Path, *, resume: bool) -> None:
    """Raises where this run may not write into the folder.

    Raises:
        ConfigError: `run` holds another run and `resume` is off, or it can't be resumed with this configuration.
    """
    if run.is_file():
        raise ConfigError(f"{run}: is a file: name a folder with --out")
    if not (run / CONFIG_FILE).exists():
        return
    if not resume:
        raise ConfigError(f"{run}: holds a run already: add --resume to go on, or name another folder with --out")
    check_settings(run, config)


def start_run(run: Path, session: Session) -> None:
    """Makes the folder, and writes the configuration and what `begun` reads when the run is resumed.

    A resumed run trains on the stored y_ext [N]: clustered again on another number of ranks or threads, the same
    clusters can have other ids than those in the checkpoint's targets. What open_clip needs, and the tokens of the
    texts where words begin with vectors, are for checkpoints that are used before the run is finished.
    """
    write_text(run / CONFIG_FILE, session.config.model_dump_json(indent=2) + "\n")
    plan = session.data.plan
    write_text(run / PLAN_FILE, plan_text(plan.order, plan.sections))
    store_rows(run, session.data.rows_now)
    _describe(run, session)
    if session.classes is not None:
        store_classes(run, session.classes.names, session.classes.labels)
    if session.clustering.external_labels is not None:
        _save(run / TEACHER_LABELS_FILE, {"labels": torch.from_numpy(session.clustering.external_labels)})
    if session.model.word_vectors is not None:
        _save(run / TRAINED_TOKENS_FILE, {"ids": session.data.loader.token_ids})


def finish_run(run: Path, session: Session, targets: EpisodeTargets | None) -> None:
    """Writes weights, prototypes and what open_clip needs; `model.safetensors` comes last: it marks the end."""
    module = session.model.module
    _save(run / HEADS_FILE, state_tensors(session.heads))
    if targets is not None:
        _save(run / PROTOTYPES_FILE, _prototypes(session.data, targets))
    _describe(run, session)
    _save(run / WEIGHTS_FILE, state_tensors(module))


def _describe(run: Path, session: Session) -> None:
    model = session.config.model
    description = open_clip_folder_config(model.name, session.model.module, model.color_management)
    write_text(run / OPEN_CLIP_CONFIG_FILE, json.dumps(description, indent=2) + "\n")


def state_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's state as contiguous CPU tensors."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def _prototypes(data: TrainingSet, targets: EpisodeTargets) -> dict[str, Tensor]:
    pairs = targets.pairs
    indices = data.plan.episode(targets.number).indices if pairs is None else pairs.cpu().numpy()
    held = indices >= 0
    tensors: dict[str, Tensor] = {}
    for side, clusters in (("image", targets.image_clusters), ("text", targets.text_clusters)):
        labels = np.full(data.num_rows, -1, dtype=np.int64)
        labels[data.rows[indices[held]]] = clusters.labels.cpu().numpy()[held]
        tensors[f"centroids_{side}"] = clusters.centroids.cpu().contiguous()
        tensors[f"labels_{side}"] = torch.from_numpy(labels)
    return tensors


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_path(path) as temporary:
        save_tensors(tensors, temporary)

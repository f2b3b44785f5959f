"""What a run needs of the machine: memory, disk space, and reasons why it can't work."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from protoclip.distributed.host_memory import GIB, available_memory_bytes
from protoclip.encoders.model import WEIGHTS_FILE
from protoclip.encoders.weights import OPEN_CLIP_CONFIG_FILE
from protoclip.runs.files import (
    BEST_FOLDER,
    CLASSES_FILE,
    CONFIG_FILE,
    HEADS_FILE,
    PLAN_FILE,
    PROTOTYPES_FILE,
    TEACHER_LABELS_FILE,
)
from protoclip.runs.metrics import METRICS_FILE

from .optim import Stage, enter_stage, named_parameters
from .run_folder import state_tensors
from .session import Session


@dataclass(frozen=True)
class PlannedFile:
    """A file that the run would write, relative to its folder."""

    name: str
    bytes: int | None


def memory_bytes(session: Session, pixel_bytes: int) -> dict[str, int]:
    """Bytes by purpose; activations, which depend on model and batch, are not included."""
    parameters, trained = _parameter_bytes(session)
    features = 2 * session.data.plan.size * session.config.model.head.projection_dim * 4
    return {
        "parameters": parameters,
        "gradients": trained,
        "optimizer": 2 * trained,
        "features of an episode": features,
        "decoded pictures": pixel_bytes,
    }


def _parameter_bytes(session: Session) -> tuple[int, int]:
    """Of all parameters, and of those that the largest stage trains: a locked tower has no gradients."""
    stage = Stage.MAIN if session.config.has_prototype_loss else Stage.CLIP
    stage = Stage.PALM if session.config.is_palm else stage
    enter_stage(stage, session.model.module, session.heads, session.config.model.lock)
    parameters = [parameter for _, parameter in named_parameters(session.model.module, session.heads)]
    trained = [parameter.nbytes for parameter in parameters if parameter.requires_grad]
    return sum(parameter.nbytes for parameter in parameters), sum(trained)


def planned_files(session: Session) -> tuple[PlannedFile, ...]:
    """The files in the finished run's folder; large ones with their sizes."""
    weights = sum(tensor.nbytes for tensor in state_tensors(session.model.module).values())
    heads = sum(tensor.nbytes for tensor in state_tensors(session.heads).values())
    _, trained = _parameter_bytes(session)
    config = session.config
    clusters = 2 * (
        session.clustering.num_prototypes * config.model.head.projection_dim * 4 + session.data.num_rows * 8
    )
    streamed = config.prototypes.source == "stream" and config.has_prototype_loss
    bank = 2 * session.data.plan.size * config.model.head.projection_dim * 4 if streamed else 0
    # One more than is kept: the oldest is removed once the newest is complete.
    checkpoints = (config.train.keep_checkpoints + 1) * (weights + heads + 2 * trained + clusters + bank)
    small = [PlannedFile(name, None) for name in (CONFIG_FILE, PLAN_FILE, METRICS_FILE, OPEN_CLIP_CONFIG_FILE)]
    large = {WEIGHTS_FILE: weights, HEADS_FILE: heads, PROTOTYPES_FILE: clusters, "checkpoints/": checkpoints}
    if session.classes is not None:
        del large[PROTOTYPES_FILE]
        large[CLASSES_FILE] = session.classes.labels.nbytes
    if session.clustering.external_labels is not None:
        large[TEACHER_LABELS_FILE] = session.clustering.external_labels.nbytes
    if session.data.held_out is not None:
        large[f"{BEST_FOLDER}/"] = weights + heads + clusters
    return (*small, *(PlannedFile(name, size) for name, size in large.items()))


def objections(
    device: torch.device, memory: dict[str, int], available: int | None, files: Iterable[PlannedFile], run: Path
) -> Iterable[str]:
    """Why the run can't work on this machine, a sentence each.

    Args:
        memory: as `memory_bytes` returns it.
        available: free bytes on `device`, None where unknown.
    """
    on_device = {name: size for name, size in memory.items() if device.type == "cpu" or "picture" not in name}
    needed = sum(on_device.values())
    if available is not None and needed > available:
        remedy = "lower data.cache_mb or " if on_device.get("decoded pictures") else ""
        yield (
            f"needs {needed / GIB:.1f} GiB of memory besides activations, but {available / GIB:.1f} GiB are "
            f"available: {remedy}take a smaller model or head"
        )
    written = sum(file.bytes or 0 for file in files)
    folder = next(parent for parent in (run.resolve(), *run.resolve().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if written > free:
        yield (
            f"writes {written / GIB:.1f} GiB, but {free / GIB:.1f} GiB are free in {folder}: "
            "lower train.keep_checkpoints or name another --out"
        )


def available_bytes(device: torch.device) -> int | None:
    """Free bytes on `device`, None where unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return available_memory_bytes()

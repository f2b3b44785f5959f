"""Reads a run folder's configuration and prototypes. Its model is read by `model`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ModelError
from protoclip.contract.first_fault import first_fault

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_FILE = "config.json"
HEADS_FILE = "heads.safetensors"
ROWS_FILE = "rows.json"
PROTOTYPES_FILE = "prototypes.safetensors"
PLAN_FILE = "plan.json"
CLASSES_FILE = "classes.safetensors"
TEACHER_LABELS_FILE = "teacher_labels.safetensors"
TRAINED_TOKENS_FILE = "trained_tokens.safetensors"
CHECKPOINTS_FOLDER = "checkpoints"
BEST_FOLDER = "best"


def load_run_config(run: Path) -> RunConfig:
    """The configuration that a run was made with.

    Raises:
        ModelError: `run` is not a run folder, or one of another version.
    """
    path = Path(run) / CONFIG_FILE
    try:
        return RunConfig.model_validate(_with_color_management(json.loads(path.read_bytes())))
    except OSError:
        raise ModelError(f"{run}: no {CONFIG_FILE} here: name a folder that `protoclip train` wrote") from None
    except ValidationError as error:
        raise ModelError(f"{path}: {first_fault(error)}") from None
    except ValueError as error:
        raise ModelError(f"{path}: no JSON: {error}") from None


def began_before_color_management(run: Path) -> bool:
    """Whether `run` holds a run of a version without `model.color_management`: it takes pictures as stored."""
    try:
        values = json.loads((Path(run) / CONFIG_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values != _with_color_management(values)


def with_begun_teacher(config: RunConfig, run: Path) -> RunConfig:
    """`config` with the run's `teacher.num_prototypes` where it has none itself.

    A version in which a default of 300 stood for none wrote that number into the run.
    """
    if config.teacher.num_prototypes is not None or not (Path(run) / CONFIG_FILE).exists():
        return config
    return with_teacher_prototypes(config, load_run_config(run).teacher.num_prototypes)


def with_teacher_prototypes(config: RunConfig, number: int | None) -> RunConfig:
    """The same with that many clusters of the teacher's features."""
    teacher = config.teacher.model_copy(update={"num_prototypes": number})
    return config.model_copy(update={"teacher": teacher})


def with_stored_colors(config: RunConfig) -> RunConfig:
    """The same for pictures as stored."""
    return config.model_copy(update={"model": config.model.model_copy(update={"color_management": "stored"})})


def _with_color_management(values: Any) -> Any:
    if not isinstance(values, dict) or not isinstance(values.get("model", {}), dict):
        return values
    return values | {"model": {"color_management": "stored"} | values.get("model", {})}


def prototype_labels(run: Path, side: str) -> tuple[NDArray[np.int64], int]:
    """The cluster of each training pair `[N]` (−1: not in the last episode) and the number of clusters.

    Raises:
        ModelError: the file is damaged or lacks that side.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = run / PROTOTYPES_FILE
    try:
        tensors = load_file(path)
        return tensors[f"labels_{side}"].astype(np.int64), len(tensors[f"centroids_{side}"])
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(f"{path}: can't be read: {error}: train again with --resume") from error


def load_teacher_labels(run: Path) -> NDArray[np.int64] | None:
    """The external teacher's cluster of each training pair, [N]; None where the run has not stored any.

    Raises:
        ModelError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = run / TEACHER_LABELS_FILE
    if not path.is_file():
        return None
    try:
        return load_file(path)["labels"].astype(np.int64)
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(f"{path}: can't be read: {error}: train anew, with another --out") from error


def load_trained_tokens(run: Path) -> Tensor:
    """The ids of the tokens that are in a training text, of a run whose words begin with vectors.

    Raises:
        ModelError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = run / TRAINED_TOKENS_FILE
    try:
        return load_file(path)["ids"]
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(f"{path}: can't be read: {error}: `protoclip train … --resume` writes it anew") from error

"""What a run of PALM learned, in NumPy: its classes, and their prototypes behind the head.

`N` training pairs, `C` classes, `M` prototypes of a class, `P` projection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.files import write_bytes
from protoclip.detection.mixture import Mixture, Reading
from protoclip.detection.trained import Layer, TrainedMixture

from .files import CLASSES_FILE, HEADS_FILE, load_run_config

_BATCH_NORM_EPSILON = 1e-5


def store_classes(run: Path, names: tuple[str, ...], labels: NDArray[np.int64]) -> None:
    """Writes the names [C] and the class of each training pair [N], -1 where it has none."""
    from safetensors.numpy import save

    write_bytes(run / CLASSES_FILE, save({"labels": labels}, {"names": json.dumps(names)}))


def load_classes(run: Path) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """What `store_classes` wrote.

    Raises:
        ModelError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = run / CLASSES_FILE
    try:
        with safe_open(path, framework="np") as file:
            names = tuple(json.loads(file.metadata()["names"]))
            return names, file.get_tensor("labels").astype(np.int64)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: can't be read: {error}: train anew, with another --out") from error


def load_mixture(run: Path, reading: Reading = "nearest") -> tuple[tuple[str, ...], TrainedMixture]:
    """The class names [C] of a finished run and their mixtures, for embeddings of the run's model.

    Raises:
        ConfigError: the run was not trained by PALM.
        ModelError: no run, an unfinished one, or a damaged file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not load_run_config(run).is_palm:
        raise ConfigError(f"{run}: was not trained with loss.objective='palm', so it has no prototypes of classes")
    path = run / HEADS_FILE
    if not path.is_file():
        raise ModelError(f"{run}: no {HEADS_FILE} here: finish it with protoclip train --resume")
    names, _ = load_classes(run)
    try:
        return names, mixture_of(load_file(path), len(names), reading)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: can't be read: {error}: train anew, with another --out") from error


def mixture_of(
    heads: Mapping[str, NDArray[Any]], num_classes: int, reading: Reading = "nearest"
) -> TrainedMixture:
    """From the state of the heads, whose head of pictures and prototypes [C·M, P] it takes.

    Raises:
        KeyError, ValueError: the heads hold no prototypes, or parts that do not fit each other.
    """
    prototypes = heads["prototypes"].astype(np.float32)
    layers = _layers({name: tensor.astype(np.float64) for name, tensor in heads.items()})
    owners = np.repeat(np.arange(num_classes), len(prototypes) // num_classes)
    return TrainedMixture(layers, Mixture(prototypes, owners, reading))


def _layers(tensors: dict[str, NDArray[np.float64]]) -> tuple[Layer, ...]:
    """The head's linear layers, each with the BatchNorm that follows it folded in, as in eval mode."""
    places = sorted({int(name.split(".")[2]) for name in tensors if name.startswith("image.layers.")})
    layers = []
    for place in places:
        name = f"image.layers.{place}"
        weight = tensors[f"{name}.weight"]
        if weight.ndim != 2:
            continue
        after = f"image.layers.{place + 1}"
        if f"{after}.running_mean" in tensors:
            spread = np.sqrt(tensors[f"{after}.running_var"] + _BATCH_NORM_EPSILON)
            gain = tensors[f"{after}.weight"] / spread
            bias = tensors[f"{after}.bias"] - tensors[f"{after}.running_mean"] * gain
            weight = weight * gain[:, None]
        else:
            bias = tensors[f"{name}.bias"]
        layers.append(Layer(weight.astype(np.float32), bias.astype(np.float32)))
    return tuple(layers)

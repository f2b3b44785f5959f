"""Models as the commands that measure them name them: a run, an artifact, or published weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from protoclip.evaluation.features import MeasuredModel


def load_measured(source: str, device: torch.device, engine: str | None = None) -> MeasuredModel:
    """The model that `source` names.

    Args:
        source: a run or one of its checkpoints, an artifact, `hf-hub:ORG/NAME`, or `NAME:TAG`, published weights.
        device: of a model in torch; an artifact's engine has its own.
        engine: of an artifact; None: the one that is served.

    Raises:
        ModelError: there is no such model, or it can't be loaded.
        ConfigError: an engine is named, and the model is no artifact.
    """
    from protoclip.contract.errors import ConfigError
    from protoclip.evaluation.features import TorchModel
    from protoclip.runs.model import load_model

    if is_artifact(source):
        from export.measured_engine import measured_engine

        return measured_engine(Path(source), engine, None)
    if engine is not None:
        raise ConfigError(f"--engine {engine}: of which artifact? name it with --artifact")
    name, _, tag = source.rpartition(":")
    if name and not source.startswith("hf-hub:") and not Path(source).exists():
        return TorchModel(load_model(name, weights=tag), device)
    _refuse_random(source)
    return TorchModel(load_model(source), device)


def is_artifact(source: str) -> bool:
    """Whether `source` is a folder that `protoclip export` wrote."""
    from protoclip.contract.manifest import MANIFEST_FILE

    return (Path(source) / MANIFEST_FILE).is_file()


def features_folder(source: str) -> Path | None:
    """Where embeddings of pictures by the model are kept: in its run's folder; None where it is of no run."""
    from protoclip.evaluation.kept_features import FEATURES_FOLDER
    from protoclip.runs.places import find_weights

    found = None if is_artifact(source) else find_weights(source)
    return None if found is None else found.run / FEATURES_FOLDER


def own_device(device: torch.device) -> torch.device:
    """The GPU of this rank, where a launcher started several."""
    import torch

    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if device.type == "cuda" else device


def _refuse_random(source: str) -> None:
    from protoclip.contract.errors import ModelError

    if not Path(source).exists() and not source.startswith("hf-hub:") and "/" not in source:
        raise ModelError(f"{source}: no such folder; of a published model name the weights too: {source}:TAG")

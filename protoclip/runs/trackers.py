"""A run's metrics for TensorBoard and for Weights & Biases, from what `metrics.jsonl` holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ConfigError
from protoclip.contract.install import install_command

from .files import load_run_config
from .metrics import read_metrics

TENSORBOARD_FOLDER = "tensorboard"


def write_tensorboard(run: Path) -> Path:
    """Writes all metrics as scalars into `RUN/tensorboard`, which is made anew; returns it.

    Tags are `step/loss`, `validation/mean_recall`, `episode/agreement` and so on.

    Raises:
        ConfigError: the package tensorboard is not installed.
        DataError: the run has no metrics.
    """
    _need("tensorboard")
    metrics = read_metrics(run)
    from torch.utils.tensorboard import SummaryWriter

    folder = run / TENSORBOARD_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as writer:
        for line in metrics:
            for name, value in _scalars(line):
                writer.add_scalar(name, value, line["step"])
    return folder


def write_wandb(run: Path, project: str) -> None:
    """Sends configuration and all metrics to a project of Weights & Biases, as a run of this one's name.

    The account and whether it goes out at all (`WANDB_MODE=offline`) are wandb's own settings.

    Raises:
        ConfigError: the package wandb is not installed.
        DataError: the run has no metrics.
    """
    _need("wandb")
    metrics = read_metrics(run)
    import wandb

    config = load_run_config(run).model_dump(mode="json")
    with wandb.init(project=project, name=run.resolve().name, dir=str(run), config=config) as tracked:
        tracked.define_metric("*", step_metric="step")
        for line in metrics:
            tracked.log({**dict(_scalars(line)), "step": line["step"]})


def _scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a line but its step, each as `kind/name`."""
    for name, value in line.items():
        if isinstance(value, int | float) and name != "step":
            yield f"{line['kind']}/{name}", float(value)


def _need(package: str) -> None:
    if find_spec(package) is None:
        raise ConfigError(f"this needs the package {package!r}: {install_command(package)}")

"""Interpolation between the initial and the trained weights (WiSE-FT, arXiv 2109.01903)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from protoclip.config.schema import ModelConfig

from .model import create_module


@torch.no_grad()
def interpolate_with_start(module: nn.Module, config: ModelConfig) -> None:
    """Makes the module `(1 − α)·start + α·trained`, in place, with `α = model.interpolate`.

    All floating-point weights and buffers are interpolated, `logit_scale` included; heads and prototypes stay
    those of the trained weights. At α = 1 nothing is done.

    Raises:
        ModelError: the initial weights' file no longer exists.
    """
    if config.interpolate == 1 or config.weights is None:
        return
    start = create_module(config.name, Path(config.weights)).state_dict()
    for name, trained in module.state_dict().items():
        if trained.is_floating_point():
            trained.lerp_(start[name].to(trained), 1 - config.interpolate)

"""Interpolation between the initial and the trained weights (WiSE-FT, arXiv 2109.01903)."""

from __future__ import annotations

import math

import torch
from torch import nn

from protoclip.config.schema import ModelConfig

from .model import MAX_LOGIT_SCALE, create_module


@torch.no_grad()
def interpolate_with_start(module: nn.Module, config: ModelConfig) -> None:
    """Makes the module `(1 − α)·start + α·trained`, in place, with `α = model.interpolate`.

    All floating-point weights and buffers are interpolated, `logit_scale` included, which is clamped as in
    training; heads and prototypes stay those of the trained weights. At α = 1 nothing is done.

    Raises:
        ModelError: the initial weights are no longer where they were.
    """
    if config.interpolate == 1 or config.weights is None:
        return
    start = create_module(config.name, config.weights).state_dict()
    for name, trained in module.state_dict().items():
        if trained.is_floating_point():
            trained.lerp_(start[name].to(trained), 1 - config.interpolate)
    module.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))  # type: ignore[operator]

"""What is logged of a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from protoclip.data.episodes import Plan
from protoclip.data.sections import passes_of
from protoclip.distributed import collectives
from protoclip.prototypes.heads import Heads

from .checkpoint import Position
from .optim import Schedule, Stage
from .step import StepLosses


def progress_values(position: Position, stage: Stage, plan: Plan, schedule: Schedule) -> dict[str, Any]:
    """The run's progress after the step that led to `position`."""
    return {
        "step": position.step,
        "pass": passes_of(plan.sections, position.step, schedule.steps_per_episode, plan.batch_size),
        "episode": (position.step - 1) // schedule.steps_per_episode,
        "stage": str(stage),
    }


def loss_values(losses: StepLosses) -> dict[str, float | None]:
    """Mean losses over the ranks; None for those that the stage does not use. All ranks call it."""
    values = {
        "loss": losses.total,
        "loss_clip": losses.clip,
        "loss_proto": losses.proto,
        "loss_ext": losses.external,
        **{f"loss_{name}": value for name, value in losses.extra.items()},
        **losses.measured,
    }
    return {name: None if value is None else collectives.mean(value).item() for name, value in values.items()}


def optimizer_values(
    optimizer: torch.optim.Optimizer, module: nn.Module, heads: Heads, norm: torch.Tensor
) -> dict[str, float]:
    """Learning rates, both scales, and the gradient norm before clipping."""
    return {
        **{f"lr_{group['tower']}": group["lr"] for group in optimizer.param_groups},
        "scale": module.logit_scale.exp().item(),  # type: ignore[operator]
        "scale_proto": heads.log_scale.exp().item(),
        "grad_norm": norm.item(),
    }

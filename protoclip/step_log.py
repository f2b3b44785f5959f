"""What a step leaves in the metrics."""

from __future__ import annotations

from typing import Any

import torch

from . import distributed
from .checkpoint import Position
from .optim import Stage
from .setup import Session
from .step import StepLosses


def step_values(
    session: Session, position: Position, stage: Stage, losses: StepLosses, norm: torch.Tensor
) -> dict[str, Any]:
    """Mean losses over the ranks, rates and scales of the step that led to `position`. All ranks call it."""
    values = {
        "loss": losses.total,
        "loss_clip": losses.clip,
        "loss_proto": losses.proto,
        "loss_ext": losses.external,
    }
    plan = session.plan
    return {
        "step": position.step,
        "pass": position.step * plan.batch_size / plan.num_pairs,
        "episode": (position.step - 1) // session.schedule.steps_per_episode,
        "stage": str(stage),
        **{name: None if value is None else distributed.mean(value).item() for name, value in values.items()},
        **{f"lr_{group['tower']}": group["lr"] for group in session.optimizer.param_groups},
        "scale": session.module.logit_scale.exp().item(),  # type: ignore[operator]
        "scale_proto": session.heads.log_scale.exp().item(),
        "grad_norm": norm.item(),
        "seconds": position.seconds,
    }

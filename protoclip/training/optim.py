"""Stages, the optimiser and its schedule: pure functions of the step.

A stage says which parameters are trained and which losses are used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import nn

from protoclip.config.schema import OptimConfig
from protoclip.prototypes.heads import Heads


class Stage(StrEnum):
    """What is trained, and by which losses.

    Warm-up: alignment only, heads on detached features. Main: all losses. LiT: image tower frozen, alignment only.
    CLIP: alignment only, the heads unused, in a run without a prototype loss.
    PALM: image tower and its head, by the classes of pictures; the text tower is frozen.
    """

    WARMUP = "warmup"
    MAIN = "main"
    LIT = "lit"
    CLIP = "clip"
    PALM = "palm"


@dataclass(frozen=True)
class Schedule:
    """Where the stages begin, in steps. Episodes have `steps_per_episode` steps; the last may be cut short."""

    num_steps: int
    steps_per_episode: int
    warmup_episodes: int
    lit_episodes: int
    has_prototype_loss: bool = True
    is_palm: bool = False

    @property
    def num_episodes(self) -> int:
        return math.ceil(self.num_steps / self.steps_per_episode)

    @property
    def lit_start(self) -> int:
        """First step of the LiT stage; `num_steps` where there is none."""
        if self.lit_episodes == 0:
            return self.num_steps
        return max(0, self.num_episodes - self.lit_episodes) * self.steps_per_episode

    def stage(self, episode: int) -> Stage:
        if self.is_palm:
            return Stage.PALM
        if episode * self.steps_per_episode >= self.lit_start:
            return Stage.LIT
        if not self.has_prototype_loss:
            return Stage.CLIP
        return Stage.WARMUP if episode < self.warmup_episodes else Stage.MAIN


def learning_rate(tower: str, step: int, schedule: Schedule, config: OptimConfig) -> float:
    """Linear warm-up, then cosine decay that ends where LiT begins; LiT has its own schedule for the text tower.

    Args:
        tower: "image", "text" or "heads".
    """
    if step < schedule.lit_start:
        return _warmup_cosine(
            step, schedule.lit_start, config.warmup_steps, config.learning_rate, config.final_learning_rate
        )
    if tower != "text":
        return 0.0
    lit_step, lit_length = step - schedule.lit_start, schedule.num_steps - schedule.lit_start
    return _warmup_cosine(lit_step, lit_length, config.lit_warmup_steps, config.lit_learning_rate, 0.0)


def _warmup_cosine(step: int, length: int, warmup: int, peak: float, final: float) -> float:
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, length - warmup)
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def make_optimizer(module: nn.Module, heads: Heads, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW or SGD with a group for each (tower, decay or not); biases, norms and scales are not decayed.

    A parameter without gradient is neither updated nor decayed, so one optimiser serves all stages.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in named_parameters(module, heads):
        decay = parameter.ndim >= 2
        groups.setdefault((_tower(name), decay), []).append(parameter)
    given = [
        {"params": parameters, "tower": tower, "weight_decay": _weight_decay(tower, config) if decay else 0.0}
        for (tower, decay), parameters in groups.items()
    ]
    if config.kind == "sgd":
        return torch.optim.SGD(
            given, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0, fused=True
        )
    return torch.optim.AdamW(given, lr=config.learning_rate, betas=config.betas, eps=config.epsilon, fused=True)


def _weight_decay(tower: str, config: OptimConfig) -> float:
    own = config.head_weight_decay if tower == "heads" else None
    return config.weight_decay if own is None else own


def named_parameters(module: nn.Module, heads: Heads) -> list[tuple[str, nn.Parameter]]:
    """All parameters with their names, prefixed by model or heads."""
    named = [(f"model.{name}", parameter) for name, parameter in module.named_parameters()]
    return named + [(f"heads.{name}", parameter) for name, parameter in heads.named_parameters()]


def enter_stage(stage: Stage, module: nn.Module, heads: Heads, lock: str | None = None) -> None:
    """Sets train or eval mode and which parameters get gradients.

    Args:
        lock: "image" or "text": a tower that no stage trains; the alignment's scale and bias are in neither.
    """
    module.train()
    heads.train()
    for name, parameter in named_parameters(module, heads):
        tower = _tower(name)
        parameter.requires_grad_(_is_trained(name, tower, stage) and (tower != lock or name in _ALIGNMENT))
        parameter.grad = None
    for name, part in module.named_children():
        tower = "image" if name == "visual" else "text"
        if tower == lock or (tower == "image" and stage is Stage.LIT) or (tower == "text" and stage is Stage.PALM):
            part.eval()


def _is_trained(name: str, tower: str, stage: Stage) -> bool:
    if stage is Stage.PALM:
        return tower == "image" or name.startswith("heads.image.")
    return stage is Stage.MAIN or tower == "text" or (tower == "image" and stage is not Stage.LIT)


_ALIGNMENT = ("model.logit_scale", "model.logit_bias")


def _tower(name: str) -> str:
    if name.startswith("heads."):
        return "heads"
    # The alignment's scale and bias go with the text tower: they are trained in every stage.
    return "image" if name.startswith("model.visual.") else "text"

"""One optimiser step: forward, losses of the stage, backward, update."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import distributed
from .config import RunConfig
from .contract.errors import ProtoclipError
from .features import normalised
from .heads import Heads
from .losses import info_nce, sigmoid_alignment
from .model import MAX_LOGIT_SCALE
from .optim import Schedule, Stage, learning_rate
from .prototypes import EpisodeTargets, external_loss, grouping_loss


@dataclass(frozen=True)
class StepLosses:
    """Scalars of a step; a loss that the stage does not use is None."""

    total: Tensor
    clip: Tensor
    proto: Tensor | None
    external: Tensor | None


class TrainStep:
    """Forward, backward and update, for one stage at a time."""

    def __init__(
        self,
        module: nn.Module,
        heads: Heads,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        config: RunConfig,
    ) -> None:
        self._module, self._heads, self._optimizer = module, heads, optimizer
        self._schedule, self._config = schedule, config

    def __call__(
        self,
        step: int,
        stage: Stage,
        images: Tensor,
        tokens: Tensor,
        positions: Tensor,
        targets: EpisodeTargets | None,
    ) -> tuple[StepLosses, Tensor]:
        """Trains on pictures [b, 3, H, W] and tokens [b, T]; returns the losses and the gradient's norm.

        Raises:
            ProtoclipError: the loss is no longer finite.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(group["tower"], step, self._schedule, self._config.optim)
        losses = self.losses(stage, images, tokens, positions, targets)
        if not torch.isfinite(losses.total):
            raise ProtoclipError(
                f"step {step}: the loss is {losses.total.item()}: lower optim.learning_rate "
                "or raise optim.warmup_steps, and go on from the last checkpoint with --resume"
            )
        self._optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        trained = [p for group in self._optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(trained, self._config.optim.clip_norm)
        self._optimizer.step()
        self._clamp_scales()
        return losses, norm

    def losses(
        self, stage: Stage, images: Tensor, tokens: Tensor, positions: Tensor, targets: EpisodeTargets | None
    ) -> StepLosses:
        """The stage's losses, with gradient."""
        image, text = self._towers(images, tokens, stage)
        weights = self._config.loss
        clip = self._alignment(image, text)
        total = weights.clip_weight * clip
        if stage is Stage.WARMUP:
            self._feed_heads(image.detach(), text.detach())
        if stage is not Stage.MAIN:
            return StepLosses(total, clip, None, None)
        if targets is None:
            raise AssertionError("the main stage needs targets")
        h_image, h_text = self._heads.image(image), self._heads.text(text)
        scale = self._heads.log_scale.exp()
        proto = grouping_loss(targets, h_image, h_text, positions, scale, weights.target_temperature)
        external = external_loss(targets, h_image, h_text, positions, scale)
        total = total + weights.proto_weight * proto
        if external is not None:
            total = total + weights.external_weight * external
        return StepLosses(total, clip, proto, external)

    def _towers(self, images: Tensor, tokens: Tensor, stage: Stage) -> tuple[Tensor, Tensor]:
        reduced = self._config.train.precision == "bf16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=reduced):
            with torch.set_grad_enabled(stage is not Stage.LIT):
                image = self._module.encode_image(images)  # type: ignore[operator]
            text = self._module.encode_text(tokens)  # type: ignore[operator]
        return image.float(), text.float()

    def _alignment(self, image: Tensor, text: Tensor) -> Tensor:
        z_image, z_text = normalised(image), normalised(text)
        all_text = distributed.gather_with_gradient(z_text)
        scale = self._module.logit_scale.exp()  # type: ignore[operator]
        first_row = distributed.rank() * len(z_image)
        if self._config.loss.alignment == "sigmoid":
            return sigmoid_alignment(z_image, all_text, scale, self._module.logit_bias, first_row)  # type: ignore[arg-type]
        return info_nce(z_image, z_text, distributed.gather_with_gradient(z_image), all_text, scale, first_row)

    @torch.no_grad()
    def _feed_heads(self, image: Tensor, text: Tensor) -> None:
        """Keeps the heads' BatchNorm statistics real before the first clustering."""
        self._heads.image(image)
        self._heads.text(text)

    @torch.no_grad()
    def _clamp_scales(self) -> None:
        self._module.logit_scale.clamp_(0, math.log(MAX_LOGIT_SCALE))  # type: ignore[operator]
        self._heads.log_scale.clamp_(0, math.log(MAX_LOGIT_SCALE))

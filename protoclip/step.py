"""One optimiser step: forward, losses of the stage, backward, update."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import distributed
from .accumulation import backward_in_parts
from .config import RunConfig
from .contract.errors import ProtoclipError
from .heads import Heads
from .losses import info_nce, sigmoid_alignment
from .model import MAX_LOGIT_SCALE
from .optim import Schedule, Stage, enter_stage, learning_rate
from .prototypes import EpisodeTargets, external_loss, grouping_loss, labels_by_feature, labels_by_position
from .towers import Projected, Projection, Towers, wrapped


@dataclass(frozen=True)
class Rows:
    """What is known of a batch's rows on this rank.

    Attributes:
        positions: [b], in the episode that is trained on.
        external: [b], their clusters by an external teacher; None without one.
    """

    positions: Tensor
    external: Tensor | None


@dataclass(frozen=True)
class StepLosses:
    """Scalars of a step over this rank's rows; a loss that the stage does not use is None.

    Attributes:
        h_image, h_text: [b, P], the rows' projections, detached; None where no prototypes are made.
    """

    total: Tensor
    clip: Tensor
    proto: Tensor | None
    external: Tensor | None
    h_image: Tensor | None
    h_text: Tensor | None


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
        self._stage: Stage | None = None
        self._towers: nn.Module = Towers(module, config.train.precision)
        self._projection: nn.Module = self._new_projection()

    def enter(self, stage: Stage) -> None:
        """Sets modes and trainable parameters; a new stage gets new distributed wrappers."""
        enter_stage(stage, self._module, self._heads, self._config.model.lock)
        if stage is not self._stage:
            self._stage = stage
            alone = (self._module.logit_scale, getattr(self._module, "logit_bias", None))
            self._towers = wrapped(Towers(self._module, self._config.train.precision), without=alone)  # type: ignore[arg-type]
            self._projection = wrapped(self._new_projection())

    def __call__(
        self, step: int, images: Tensor, tokens: Tensor, rows: Rows, targets: EpisodeTargets | None
    ) -> tuple[StepLosses, Tensor]:
        """Trains on this rank's pictures [b, 3, H, W] and tokens [b, T]; returns losses and gradient norm.

        Raises:
            ProtoclipError: the loss is no longer finite, on any rank.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(group["tower"], step, self._schedule, self._config.optim)
        self._optimizer.zero_grad(set_to_none=True)
        losses = self.backward(images, tokens, rows, targets)
        self._require_finite(step, losses.total)
        trained = [p for group in self._optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(trained, self._config.optim.clip_norm)
        self._optimizer.step()
        self._clamp_scales()
        return losses, norm

    def backward(self, images: Tensor, tokens: Tensor, rows: Rows, targets: EpisodeTargets | None) -> StepLosses:
        """Adds the gradients of the entered stage's losses to the parameters, and returns the losses."""

        def backward(image: Tensor, text: Tensor) -> StepLosses:
            losses = self._losses(self._projection(image, text, self._stage), rows, targets)
            losses.total.backward()
            return losses

        parts = self._config.train.accumulation
        if parts > 1:
            return backward_in_parts(self._towers, images, tokens, parts, backward)
        return backward(*self._towers(images, tokens))

    def _losses(self, projected: Projected, rows: Rows, targets: EpisodeTargets | None) -> StepLosses:
        clip = self._alignment(projected)
        total = self._config.loss.clip_weight * clip
        if projected.h_image is None or projected.h_text is None:
            return StepLosses(total, clip, None, None, None, None)
        image, text = projected.h_image, projected.h_text
        proto = external = None
        if self._stage is Stage.MAIN:
            proto, external = self._prototype_losses(image, text, rows, targets, projected.scale_proto)
            total = total + self._config.loss.proto_weight * proto
        if external is not None:
            total = total + self._config.loss.external_weight * external
        return StepLosses(total, clip, proto, external, image.detach(), text.detach())

    def _prototype_losses(
        self, image: Tensor, text: Tensor, rows: Rows, targets: EpisodeTargets | None, scale: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        if targets is None:
            raise AssertionError("the main stage needs targets")
        if self._config.prototypes.source == "stream":
            labels = labels_by_feature(targets, image, text, rows.external)
        else:
            labels = labels_by_position(targets, rows.positions, rows.external)
        proto = grouping_loss(targets, image, text, labels, scale, self._config.loss.target_temperature)
        return proto, external_loss(targets, image, text, labels, scale)

    def _alignment(self, projected: Projected) -> Tensor:
        z_image, z_text, scale = projected.z_image, projected.z_text, projected.scale
        all_text = distributed.gather_with_gradient(z_text)
        first_row = distributed.rank() * len(z_image)
        if self._config.loss.alignment == "sigmoid":
            if projected.bias is None:
                raise AssertionError("the sigmoid loss needs a bias")
            return sigmoid_alignment(z_image, all_text, scale, projected.bias, first_row)
        return info_nce(z_image, z_text, distributed.gather_with_gradient(z_image), all_text, scale, first_row)

    def _require_finite(self, step: int, loss: Tensor) -> None:
        """On all ranks alike: one that stopped alone would leave the others waiting."""
        broken = distributed.all_reduce_max((~torch.isfinite(loss.detach())).to(torch.int32))
        if broken.item():
            raise ProtoclipError(
                f"step {step}: the loss is {loss.item()}: lower optim.learning_rate "
                "or raise optim.warmup_steps, and go on from the last checkpoint with --resume"
            )

    def release(self) -> None:
        """Lets go of the distributed wrappers; a stage must be entered before the next step."""
        self._stage = None
        self._towers, self._projection = nn.Identity(), nn.Identity()

    def _new_projection(self) -> Projection:
        return Projection(self._module, self._heads, self._config.loss.alignment)

    @torch.no_grad()
    def _clamp_scales(self) -> None:
        largest = math.log(min(self._config.loss.max_scale, MAX_LOGIT_SCALE))
        self._module.logit_scale.clamp_(0, largest)  # type: ignore[operator]
        self._heads.log_scale.clamp_(0, largest)

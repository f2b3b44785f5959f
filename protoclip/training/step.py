"""One optimiser step: forward, losses of the stage, backward, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import DataError, ProtoclipError
from protoclip.distributed import collectives
from protoclip.distributed.batch_norm import uncounted
from protoclip.encoders.model import MAX_LOGIT_SCALE
from protoclip.prototypes.heads import Heads
from protoclip.prototypes.losses import info_nce, sigmoid_alignment
from protoclip.prototypes.objective import PrototypeObjective, Rows
from protoclip.prototypes.targets import EpisodeTargets

from .accumulation import backward_in_parts
from .optim import Schedule, Stage, enter_stage, learning_rate
from .towers import Projected, Projection, Towers, wrapped

ExtraLoss = Callable[[Projected, Rows], Tensor]
"""A user-defined loss: a scalar, the mean over this rank's rows, in every stage.

Value and gradient are averaged over the ranks, weighted by their numbers of rows, which differ where pictures
could not be read. What it returns for no rows is ignored.
"""
_FEWEST_PAIRS = 2


@dataclass(frozen=True)
class StepLosses:
    """Scalars of a step over this rank's rows; a loss that the stage does not use is None.

    Attributes:
        h_image, h_text: [b, P], the rows' projections, detached; None where no prototypes are made.
        extra: user-defined losses, by name, detached.
        measured: what else is logged, by name, detached: this rank's part of the mean over all rows.
    """

    total: Tensor
    clip: Tensor | None
    proto: Tensor | None
    external: Tensor | None
    h_image: Tensor | None
    h_text: Tensor | None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    measured: Mapping[str, Tensor] = field(default_factory=dict)


class TrainStep:
    """Forward, backward and update, for one stage at a time.

    Args:
        extra_losses: by name; each is added to the total.
    """

    def __init__(
        self,
        module: nn.Module,
        heads: Heads,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        config: RunConfig,
        extra_losses: Mapping[str, ExtraLoss] | None = None,
    ) -> None:
        self._module, self._heads, self._optimizer = module, heads, optimizer
        self._schedule, self._config = schedule, config
        self._objective = PrototypeObjective(config.prototypes, config.loss)
        self._extra_losses = extra_losses or {}
        self._stage: Stage | None = None
        self._towers: nn.Module = self._new_towers()
        self._projection: nn.Module = self._new_projection()

    def enter(self, stage: Stage) -> None:
        """Sets modes and trainable parameters; a new stage gets new DistributedDataParallel wrappers."""
        enter_stage(stage, self._module, self._heads, self._config.model.lock)
        if stage is not self._stage:
            self._stage = stage
            alone = (self._module.logit_scale, getattr(self._module, "logit_bias", None))
            self._towers = wrapped(self._new_towers(), without=alone)  # type: ignore[arg-type]
            self._projection = wrapped(self._new_projection())

    def __call__(
        self, step: int, images: Tensor, tokens: Tensor, rows: Rows, targets: EpisodeTargets | None
    ) -> tuple[StepLosses, Tensor]:
        """Trains on this rank's pictures [b, 3, H, W] and tokens [b, T]; returns losses and gradient norm.

        Ranks may have different b, or none: the losses are means over all ranks' rows.

        Raises:
            DataError: all ranks together have fewer than two pairs: nothing can be learned from one.
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
        self._after_update()
        return losses, norm

    def backward(self, images: Tensor, tokens: Tensor, rows: Rows, targets: EpisodeTargets | None) -> StepLosses:
        """Accumulates the gradients of the current stage's losses in the parameters, and returns the losses.

        Raises:
            DataError: as calling it.
        """
        sizes = collectives.gather_sizes(len(images))
        if sum(sizes) < _FEWEST_PAIRS:
            raise DataError(
                f"of the {self._config.train.batch_size} pictures of a batch {sum(sizes)} can be read: "
                "check data.path, and go on from the last checkpoint with --resume"
            )
        absent = not len(images)
        if absent:
            # The gradient exchange waits for every rank, and towers can't be asked about no picture. What they
            # make of this one enters no loss.
            images, tokens = images.new_zeros(1, *images.shape[1:]), tokens.new_zeros(1, *tokens.shape[1:])

        def backward(image: Tensor, text: Tensor) -> StepLosses:
            if absent:
                image, text = image[:0], text[:0]
            losses = self._losses(self._projection(image, text, self._stage), rows, targets, sizes)
            losses.total.backward()
            return losses

        parts = self._config.train.accumulation
        with uncounted(self._module) if absent else nullcontext():
            if parts > 1:
                return backward_in_parts(self._towers, images, tokens, parts, backward)
            return backward(*self._towers(images, tokens))

    def _losses(
        self, projected: Projected, rows: Rows, targets: EpisodeTargets | None, sizes: Sequence[int]
    ) -> StepLosses:
        weights, proto, external = self._config.loss, None, None
        # A mean over own rows times this is a rank's part of the mean over all rows. With equal sizes it is 1.
        share = len(projected.z_image) * len(sizes) / sum(sizes)
        clip = self._alignment(projected, sizes) * share
        total = weights.clip_weight * clip
        image, text = projected.h_image, projected.h_text
        if self._stage is Stage.MAIN and image is not None and text is not None:
            if targets is None:
                raise AssertionError("the main stage needs targets")
            found = self._objective.losses(targets, image, text, rows, projected.scale_proto)
            proto, external = found.proto, found.external
            total = total + weights.proto_weight * proto
        if external is not None:
            total = total + weights.external_weight * external
        extra = self._extra(projected, rows, share)
        for value in extra.values():
            total = total + value
        image, text = (None if side is None else side.detach() for side in (image, text))
        detached = {name: value.detach() for name, value in extra.items()}
        return StepLosses(total, clip, proto, external, image, text, detached)

    def _extra(self, projected: Projected, rows: Rows, share: float) -> dict[str, Tensor]:
        """The user's losses, as this rank's part of the mean over all rows."""
        extra = {name: loss(projected, rows) for name, loss in self._extra_losses.items()}
        return {name: value * share if share else torch.zeros_like(value) for name, value in extra.items()}

    def _alignment(self, projected: Projected, sizes: Sequence[int]) -> Tensor:
        z_image, z_text, scale = projected.z_image, projected.z_text, projected.scale
        all_text = collectives.gather_with_gradient(z_text, sizes)
        first_row = sum(sizes[: collectives.rank()])
        if self._config.loss.alignment == "sigmoid":
            if projected.bias is None:
                raise AssertionError("the sigmoid loss needs a bias")
            return sigmoid_alignment(z_image, all_text, scale, projected.bias, first_row)
        all_image = collectives.gather_with_gradient(z_image, sizes)
        return info_nce(z_image, z_text, all_image, all_text, scale, first_row)

    def _require_finite(self, step: int, loss: Tensor) -> None:
        """Raises on all ranks alike: if one rank stopped alone, the others would wait for it in a collective."""
        broken = collectives.all_reduce_max((~torch.isfinite(loss.detach())).to(torch.int32))
        if broken.item():
            raise ProtoclipError(
                f"step {step}: the loss is {loss.item()}: lower optim.learning_rate "
                "or raise optim.warmup_steps, and go on from the last checkpoint with --resume"
            )

    def release(self) -> None:
        """Drops the DistributedDataParallel wrappers; a stage must be entered before the next step."""
        self._stage = None
        self._towers, self._projection = nn.Identity(), nn.Identity()

    def _new_towers(self) -> nn.Module:
        return Towers(self._module, self._config.train.precision)

    def _new_projection(self) -> nn.Module:
        return Projection(self._module, self._heads, self._config.loss.alignment)

    @torch.no_grad()
    def _after_update(self) -> None:
        largest = math.log(min(self._config.loss.max_scale, MAX_LOGIT_SCALE))
        self._module.logit_scale.clamp_(0, largest)  # type: ignore[operator]
        self._heads.log_scale.clamp_(0, largest)

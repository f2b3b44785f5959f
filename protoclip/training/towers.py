"""The two parts of the network, each with its DistributedDataParallel wrapper: the towers, and what follows them.

`b` pairs on this rank, `D` joint embedding, `P` projection. They are separate so that a large batch can pass
the towers part by part and what follows them as a whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from protoclip.distributed import collectives
from protoclip.encoders.precision import computing_in, normalised, whole_precision
from protoclip.prototypes.heads import Heads

from .optim import Stage


class Projected(NamedTuple):
    """What the losses take; rows of unit norm.

    Attributes:
        z_image, z_text: [b, D], the embeddings.
        h_image, h_text: [b, P], the projections, without gradient in warm-up; None where no prototypes are made.
        scale, scale_proto: s and s_proto, scalars.
        bias: of the sigmoid loss, a scalar; None for InfoNCE.
    """

    z_image: Tensor
    z_text: Tensor
    h_image: Tensor | None
    h_text: Tensor | None
    scale: Tensor
    scale_proto: Tensor
    bias: Tensor | None


class Towers(nn.Module):
    """Pictures [b, 3, H, W] and tokens [b, T] → both towers' outputs [b, D], not normalised, float32 at least."""

    def __init__(self, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.model, self._precision = model, precision

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        with computing_in(self._precision, images.device):
            image = self.model.encode_image(images)  # type: ignore[operator]
            text = self.model.encode_text(tokens)  # type: ignore[operator]
        return whole_precision(image), whole_precision(text)


class Projection(nn.Module):
    """Towers' outputs [b, D] → all that the losses of a stage take: embeddings, projections, scales."""

    def __init__(self, model: nn.Module, heads: Heads, alignment: str) -> None:
        super().__init__()
        self.heads = heads
        self.logit_scale: nn.Parameter = model.logit_scale  # type: ignore[assignment]
        self.logit_bias: nn.Parameter | None = model.logit_bias if alignment == "sigmoid" else None  # type: ignore[assignment]

    def forward(self, image: Tensor, text: Tensor, stage: Stage) -> Projected:
        h_image = h_text = None
        if stage in (Stage.WARMUP, Stage.MAIN):
            # In warm-up too: BatchNorm's statistics and the bank must be filled before the first clustering.
            with torch.set_grad_enabled(torch.is_grad_enabled() and stage is Stage.MAIN):
                h_image, h_text = self.heads.image(image), self.heads.text(text)
        scales = self.logit_scale.exp(), self.heads.log_scale.exp()
        return Projected(normalised(image), normalised(text), h_image, h_text, *scales, self.logit_bias)


def wrapped(part: nn.Module, *, without: Iterable[nn.Parameter | None] = ()) -> nn.Module:
    """`part` with gradients averaged over the ranks in its backward pass.

    On one rank, or where nothing is trained, it is `part` itself. DistributedDataParallel expects a gradient for
    every parameter that requires one when it is made: make a new wrapper for each stage.

    Args:
        without: parameters that another wrapper reduces.
    """
    others = [parameter for parameter in without if parameter is not None and parameter.requires_grad]
    # DistributedDataParallel reads this flag only in its constructor.
    for parameter in others:
        parameter.requires_grad_(False)
    trained = any(parameter.requires_grad for parameter in part.parameters())
    # The strides of 1 × 1 convolutions differ although their layout in memory is the same.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    whole = DistributedDataParallel(part) if trained and collectives.world_size() > 1 else part
    for parameter in others:
        parameter.requires_grad_(True)
    return whole

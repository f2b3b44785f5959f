"""PALM's objective: pure functions of tensors (Lu et al. 2024, arXiv 2402.02653).

`B` rows of the global batch, `b` on this rank, `P` projection, `C` classes, `M` prototypes of a class.
Features and prototypes have unit norm; the prototypes of class c are rows c·M to (c + 1)·M - 1 of [C·M, P].
NaN in, NaN out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from protoclip.detection.balancing import TEMPERATURE as BALANCING_TEMPERATURE
from protoclip.detection.balancing import balanced


def assigned(features: Tensor, labels: Tensor, prototypes: Tensor, per_class: int, kept: int) -> Tensor:
    """Weights [B, C·M] of rows for the prototypes of their own class; a row sums to 1, without gradient.

    Sinkhorn on `exp(f·pᵀ / 0.05)` over the batch and all prototypes, then the `kept` largest of the own class,
    divided by their sum.

    Args:
        features: [B, P].
        labels: [B], the class of each row; a row without one, -1, weighs nothing.
        per_class: M.
    """
    weights = torch.zeros(len(features), len(prototypes), dtype=features.dtype, device=features.device)
    known = labels >= 0
    if not known.any():
        return weights
    cosines = features[known].detach() @ prototypes.T
    plan = balanced(((cosines - cosines.max()) / BALANCING_TEMPERATURE).exp())
    owners = torch.arange(len(prototypes), device=features.device) // per_class
    plan = plan * (owners == labels[known].unsqueeze(1))
    if kept < per_class:
        least = plan.topk(kept, dim=1).values[:, -1:]
        plan = torch.where(plan >= least, plan, 0.0)
    weights[known] = F.normalize(plan, p=1, dim=1)
    return weights


def weighted_means(features: Tensor, weights: Tensor) -> Tensor:
    """[C·M, P], the mean of the features [B, P] by their weights [B, C·M]; zeros for a prototype without any."""
    return F.normalize(weights, p=1, dim=0).T @ features


def moved(prototypes: Tensor, means: Tensor, momentum: float, push: Tensor | None = None) -> Tensor:
    """`normalise(momentum · p + (1 - momentum) · (mean - push))`, without gradient.

    That is a step of the gradient of `½ ‖p - mean‖² + loss`, where `push` is the gradient of a loss.

    Args:
        prototypes: [C·M, P].
        means: [C·M, P]; zeros where no row of the batch counts, whose prototype is its own mean.
        push: [C·M, P].
    """
    absent = (means == 0).all(dim=1, keepdim=True)
    towards = torch.where(absent, prototypes, means.detach())
    if push is not None:
        towards = towards - push
    return F.normalize(momentum * prototypes + (1 - momentum) * towards, dim=1)


def mixture_losses(features: Tensor, weights: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """`log Σ_all exp(f·p/τ) - Σ_own w · f·p/τ` of each row [b]: how unlikely its own class is.

    Args:
        features: [b, P].
        weights: [b, C·M], as `assigned` made them.
        temperature: τ.
    """
    logits = features @ prototypes.T / temperature
    return logits.logsumexp(dim=1) - (weights * logits).sum(dim=1)


def contrast_loss(prototypes: Tensor, per_class: int, temperature: float) -> Tensor:
    """Supervised contrast among prototypes [C·M, P]: those of a class together, classes apart.

    The mean over prototypes of `log Σ_others exp(p·q/τ) - mean_own p·q/τ`, both without the prototype itself.
    With M = 1 there is no other of the own class, and only the first part is left: it drives centres apart.
    """
    count = len(prototypes)
    cosines = prototypes @ prototypes.T / temperature
    itself = torch.eye(count, dtype=torch.bool, device=prototypes.device)
    apart = cosines.masked_fill(itself, torch.finfo(cosines.dtype).min / 2).logsumexp(dim=1)
    owners = torch.arange(count, device=prototypes.device) // per_class
    own = (owners.unsqueeze(1) == owners) & ~itself
    together = (cosines * own).sum(dim=1) / max(1, per_class - 1)
    return (apart - together).mean()


def contrast_push(prototypes: Tensor, per_class: int, temperature: float) -> Tensor:
    """The gradient [C·M, P] of each prototype's own part of `contrast_loss`."""
    with torch.enable_grad():
        leaf = prototypes.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(contrast_loss(leaf, per_class, temperature), leaf)
    return gradient * len(prototypes)


def through_means(prototypes: Tensor, means: Tensor) -> Tensor:
    """The prototypes [C·M, P], with the gradient of the batch's means, of which they are moving averages."""
    return F.normalize(prototypes + (means - means.detach()), dim=1)


def random_prototypes(count: int, dim: int, seed: int) -> Tensor:
    """[count, dim], evenly on the unit sphere."""
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=draw), dim=1)

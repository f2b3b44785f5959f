"""ProtoCLIP's losses: pure functions of tensors (arXiv 2206.10996, Section 3).

`B` pairs in the global batch, `b` on this rank, `D` joint embedding, `P` projection, `K` prototypes.
Features are L2-normalised; scales are inverse temperatures. NaN in, NaN out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from protoclip.distributed import collectives


def info_nce(
    image: Tensor, text: Tensor, all_image: Tensor, all_text: Tensor, scale: Tensor, first_row: int = 0
) -> Tensor:
    """½ [ CE(s·z_image·z_textᵀ, i) + CE(s·z_text·z_imageᵀ, i) ] over this rank's rows: a scalar.

    Args:
        image, text: [b, D], this rank's.
        all_image, all_text: [B, D], gathered with gradient in the order of ranks; one process passes its own.
        scale: s, a scalar.
        first_row: index of this rank's first row in the global batch.

    Without a row the result is 0 with zero gradient.
    """
    targets = torch.arange(first_row, first_row + len(image), device=image.device)
    # The mean over no row would be NaN.
    reduction = "mean" if len(image) else "sum"
    image_to_text = F.cross_entropy(scale * image @ all_text.T, targets, reduction=reduction)
    text_to_image = F.cross_entropy(scale * text @ all_image.T, targets, reduction=reduction)
    return (image_to_text + text_to_image) / 2


def sigmoid_alignment(image: Tensor, all_text: Tensor, scale: Tensor, bias: Tensor, first_row: int = 0) -> Tensor:
    """SigLIP's pairwise loss, −Σ log σ(±(s·z_image·z_text + bias)) / b (arXiv 2303.15343): a scalar.

    Without a row the result is 0 with zero gradient.
    """
    logits = scale * image @ all_text.T + bias
    signs = -torch.ones_like(logits)
    rows = torch.arange(len(image), device=image.device)
    signs[rows, rows + first_row] = 1
    return -F.logsigmoid(signs * logits).sum() / max(1, len(image))


@dataclass(frozen=True)
class Target:
    """What a student is trained towards, in one direction.

    Attributes:
        student_prototypes: [K, P], S: the teacher's centroids, or with back translation the means of the
            student's own features over the members of the teacher's clusters.
        valid: [K] bool, clusters with members on both sides; the others are left out.
        teacher_centroids: [K, P'], for soft targets; None means hard labels.
    """

    student_prototypes: Tensor
    valid: Tensor
    teacher_centroids: Tensor | None


def prototype_loss(features: Tensor, labels: Tensor, target: Target, scale: Tensor, temperature: float) -> Tensor:
    """CE( softmax(s_proto·h·Sᵀ), softmax(C[y]·Cᵀ/τ) ), the mean over the rows whose cluster is valid: a scalar.

    The mean is over all ranks' rows: averaged over ranks, value and gradient are those of the whole batch.

    Args:
        features: h [b, P], the student's.
        labels: y [b], the teacher's cluster of each row; −1 where unknown.
        scale: s_proto, a scalar.
        temperature: τ; ≤ 0, or no teacher centroids, means the hard label.

    Invalid clusters are masked with a finite minimum in both softmaxes, never with −inf (0·−inf is NaN).
    Without a valid row the result is 0 with zero gradient.
    """
    use = (labels >= 0) & target.valid[labels.clamp(min=0)]
    masked = ~target.valid
    logits = scale * features @ target.student_prototypes.T
    log_student = F.log_softmax(_mask(logits, masked), dim=-1)
    if temperature > 0 and target.teacher_centroids is not None:
        centroids = target.teacher_centroids
        teacher_logits = centroids[labels.clamp(min=0)] @ centroids.T / temperature
        teacher = F.softmax(_mask(teacher_logits, masked), dim=-1)
        losses = -(teacher * log_student).sum(dim=-1)
    else:
        losses = -log_student.gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1)
    # A row of an invalid cluster can hold the masked minimum times a probability: it must not enter the sum.
    losses = torch.where(use, losses, torch.zeros_like(losses))
    # This rank's part of the mean over all ranks' valid rows.
    count = collectives.all_reduce_sum(use.sum(dtype=losses.dtype)) / collectives.world_size()
    return losses.sum() / torch.where(count > 0, count, 1)


def _mask(logits: Tensor, masked: Tensor) -> Tensor:
    return logits.masked_fill(masked, torch.finfo(logits.dtype).min / 2)

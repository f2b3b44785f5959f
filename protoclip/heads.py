"""Projection heads: tower outputs [B, D] before normalisation → [B, P] of unit norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import distributed


class SyncedBatchNorm1d(nn.BatchNorm1d):
    """BatchNorm1d whose statistics in training are those of all ranks' rows [B, C] together.

    On one rank it is BatchNorm1d itself. torch's SyncBatchNorm takes GPU tensors only.
    """

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or distributed.world_size() == 1:
            return super().forward(features)
        count = distributed.all_reduce_sum(features.new_tensor(len(features)))
        mean = distributed.sum_with_gradient(features.sum(dim=0)) / count
        centred = features - mean
        variance = distributed.sum_with_gradient(centred.square().sum(dim=0)) / count
        self._follow(mean, variance * count / (count - 1).clamp(min=1))
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum or 0.0)
        self.running_var.lerp_(unbiased_variance, self.momentum or 0.0)


class ProjectionHead(nn.Module):
    """Linear–BatchNorm–ReLU, repeated, then Linear; the output is L2-normalised.

    Args:
        input_dim: D.
        projection_dim: P.
        hidden_dim: width of the hidden layers.
        num_layers: linear layers; 1 is a plain linear map.
    """

    def __init__(self, input_dim: int, projection_dim: int, hidden_dim: int = 2048, num_layers: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = input_dim
        for _ in range(num_layers - 1):
            layers += [
                nn.Linear(width, hidden_dim, bias=False),
                SyncedBatchNorm1d(hidden_dim),
                nn.ReLU(inplace=True),
            ]
            width = hidden_dim
        self.layers = nn.Sequential(*layers, nn.Linear(width, projection_dim))

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.layers(features), dim=-1)


class Heads(nn.Module):
    """The two heads and the logarithm of the prototype losses' inverse temperature."""

    def __init__(self, input_dim: int, projection_dim: int, hidden_dim: int = 2048, num_layers: int = 2) -> None:
        super().__init__()
        self.image = ProjectionHead(input_dim, projection_dim, hidden_dim, num_layers)
        self.text = ProjectionHead(input_dim, projection_dim, hidden_dim, num_layers)
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

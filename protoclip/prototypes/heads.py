"""Projection heads: tower outputs [B, D] before normalisation → [B, P] of unit norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protoclip.distributed.batch_norm import SyncedBatchNorm


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
                SyncedBatchNorm(hidden_dim),
                nn.ReLU(inplace=True),
            ]
            width = hidden_dim
        self.layers = nn.Sequential(*layers, nn.Linear(width, projection_dim))

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.layers(features), dim=-1)


class Heads(nn.Module):
    """The two heads, of P = `projection_dim`, and the logarithm of the prototype losses' inverse temperature.

    Args:
        same_start: the text's head begins as a copy of the picture's. The draws are the same either way, so that
            all that is drawn later is too.
    """

    def __init__(
        self,
        input_dim: int,
        projection_dim: int,
        hidden_dim: int = 2048,
        num_layers: int = 2,
        same_start: bool = False,
    ) -> None:
        super().__init__()
        self.projection_dim = projection_dim
        self.image = ProjectionHead(input_dim, projection_dim, hidden_dim, num_layers)
        self.text = ProjectionHead(input_dim, projection_dim, hidden_dim, num_layers)
        if same_start:
            self.text.load_state_dict(self.image.state_dict())
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def add_prototypes(self, prototypes: Tensor) -> None:
        """Keeps the prototypes [K, P] of PALM's classes beside the heads, in their state."""
        self.register_buffer("prototypes", prototypes)

"""The two encoders as they are exported; their inputs and outputs are the interface for serving.

Shapes: `B` batch, `H`, `W` the model's picture size, `T` its context length, `D` joint embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protoclip.encoders.model import ClipModel


class ImageEncoder(nn.Module):
    """uint8 `[B, H, W, 3]` → float32 `[B, D]`, rows of unit norm.

    Normalisation is part of the graph, in float32, so that no caller can use a wrong mean or std.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, clip: ClipModel) -> None:
        super().__init__()
        self.clip = clip.module
        self.register_buffer("mean", torch.tensor(clip.mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(clip.std, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        # To float first: TensorRT supports uint8 inputs but does not transpose uint8.
        images = (pixels.float().permute(0, 3, 1, 2) / 255 - self.mean) / self.std
        return F.normalize(self.clip.encode_image(images).float(), dim=-1)  # type: ignore[operator]


class TextEncoder(nn.Module):
    """int32 `[B, T]` → float32 `[B, D]`, rows of unit norm; pooling is the model's own."""

    def __init__(self, clip: ClipModel) -> None:
        super().__init__()
        self.clip = clip.module

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.clip.encode_text(tokens).float(), dim=-1)  # type: ignore[operator]


def example_pixels(clip: ClipModel) -> Tensor:
    """Two black pictures, uint8 `[2, H, W, 3]`: a batch of 1 would be traced as a constant."""
    return torch.zeros((2, clip.pixels.height, clip.pixels.width, 3), dtype=torch.uint8)


def example_tokens(clip: ClipModel) -> Tensor:
    """Two rows of token 0, int32 `[2, T]`."""
    return torch.zeros((2, clip.text.context_length), dtype=torch.int32)

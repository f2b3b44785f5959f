"""From loaded batches to what the towers take, on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from protoclip.config.schema import AugmentationConfig

from .augmentation import colour_augment
from .batches import Batch


class InputPipeline:
    """Moves batches to the device, augments colours and normalises.

    Args:
        mean, std: of the model's input, for values in [0, 1].
    """

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], config: AugmentationConfig, device: torch.device
    ) -> None:
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, 3, 1, 1)
        self._config, self._device = config, device

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """→ pictures [B, 3, H, W] float32, augmented and normalised, and tokens [B, T] int64."""
        pixels = batch.pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
        # Planes of one colour first: arithmetic with a number for each colour is slow on interleaved ones.
        pixels = pixels.contiguous().float().div_(255)
        pixels = colour_augment(pixels, batch.colour_draws.to(self._device), self._config)
        # In place: for a large batch, fresh memory for each operation costs as much as the operation.
        return pixels.sub_(self._mean).div_(self._std), batch.tokens.to(self._device, non_blocking=True).long()

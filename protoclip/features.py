"""Extraction: the projected features of an episode, by the whole model in eval mode."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import AugmentationConfig
from .data.augmentation import colour_augment
from .data.batches import Batch
from .heads import Heads


class InputPipeline:
    """Batches on the device as the towers want them.

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
        pixels = batch.pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
        pixels = colour_augment(pixels, batch.colour_draws.to(self._device), self._config)
        return (pixels - self._mean) / self._std, batch.tokens.to(self._device, non_blocking=True).long()


@torch.inference_mode()
def extract(
    module: nn.Module, heads: Heads, batches: Iterable[Batch], pipeline: InputPipeline, num_pairs: int
) -> tuple[Tensor, Tensor]:
    """h_image and h_text, [m, P] each, unit norm, in the order of positions.

    Leaves BatchNorm's statistics alone; the caller enters its stage again afterwards.
    """
    module.eval()
    heads.eval()
    image_features: Tensor | None = None
    text_features: Tensor | None = None
    for batch in batches:
        images, tokens = pipeline(batch)
        image = heads.image(module.encode_image(images).float())  # type: ignore[operator]
        text = heads.text(module.encode_text(tokens).float())  # type: ignore[operator]
        if image_features is None or text_features is None:
            image_features, text_features = (h.new_zeros(num_pairs, h.shape[1]) for h in (image, text))
        positions = batch.positions.to(image.device)
        image_features[positions], text_features[positions] = image, text
    if image_features is None or text_features is None:
        raise ValueError("extract needs at least one batch")
    return image_features.clone(), text_features.clone()


def normalised(features: Tensor) -> Tensor:
    """Rows of unit norm, computed in float32."""
    return F.normalize(features.float(), dim=-1)

"""Extraction: the projected features of an episode, by the whole model in eval mode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Shard:
    """What this rank has of an episode's projected features.

    Attributes:
        image, text: h_image and h_text, [n, P] each, unit norm.
        positions: [n] int64, their places in the episode; every place is on one rank.
    """

    image: Tensor
    text: Tensor
    positions: Tensor


@torch.inference_mode()
def extract(towers: nn.Module, heads: Heads, batches: Iterable[Batch], pipeline: InputPipeline) -> Shard:
    """Projects batches in eval mode; at least one.

    Leaves BatchNorm's statistics alone; the caller enters its stage again afterwards.

    Args:
        towers: pictures and tokens → both towers' outputs, in the precision of training.
    """
    towers.eval()
    heads.eval()
    image: list[Tensor] = []
    text: list[Tensor] = []
    positions: list[Tensor] = []
    for batch in batches:
        images, tokens = pipeline(batch)
        image_features, text_features = towers(images, tokens)
        image.append(heads.image(image_features))
        text.append(heads.text(text_features))
        positions.append(batch.positions.to(images.device))
    # Cloned: what inference mode made could not be used where gradients are.
    return Shard(*(torch.cat(parts).clone() for parts in (image, text, positions)))


def normalised(features: Tensor) -> Tensor:
    """Rows of unit norm, computed in float32 at least."""
    return F.normalize(whole_precision(features), dim=-1)


def computing_in(precision: str, device: torch.device) -> torch.autocast:
    """Inside, towers compute as `train.precision` says: bf16 is mixed, fp32 leaves them as they are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def whole_precision(features: Tensor) -> Tensor:
    """float32, unless they have more."""
    return features if features.dtype == torch.float64 else features.float()

"""Augmentation from given random numbers: the crop on each picture, all else on whole batches.

`B` pictures. Draws are uniform random numbers in [0, 1) from `random_numbers.uniforms`, so that a picture's
augmentation depends on (seed, index, visit) only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from protoclip.config.schema import AugmentationConfig

NUM_CROP_DRAWS = 4
NUM_COLOUR_DRAWS = 9
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class CropBox:
    """Left, top, right, bottom in pixels of the source, and whether to mirror."""

    box: tuple[float, float, float, float]
    mirror: bool


def draw_crop(draws: list[float], width: int, height: int, config: AugmentationConfig) -> CropBox:
    """A random crop; its position is uniform, and it is shrunk where its aspect ratio does not fit the picture.

    The share of the area is uniform in `crop_scale`, the logarithm of the aspect ratio uniform in `crop_ratio`.
    """
    area_draw, ratio_draw, x_draw, y_draw = draws
    low, high = config.crop_scale
    area = width * height * (low + (high - low) * area_draw)
    log_low, log_high = math.log(config.crop_ratio[0]), math.log(config.crop_ratio[1])
    ratio = math.exp(log_low + (log_high - log_low) * ratio_draw)
    crop_width = min(math.sqrt(area * ratio), width)
    crop_height = min(math.sqrt(area / ratio), height)
    # The same draw decides the flip and the position.
    x_draw, mirror = _split(x_draw, config.flip)
    left, top = x_draw * (width - crop_width), y_draw * (height - crop_height)
    return CropBox((left, top, left + crop_width, top + crop_height), mirror)


def colour_augment(pixels: Tensor, draws: Tensor, config: AugmentationConfig) -> Tensor:
    """Colour jitter, greyscale and blur, each on the pictures whose draw selects it.

    Args:
        pixels: [B, 3, H, W] in [0, 1].
        draws: [B, 9].

    Returns:
        [B, 3, H, W] in [0, 1]; the order of the jitter is brightness, contrast, saturation, hue.
    """
    chosen = {name: draws[:, i] < p for i, (name, p) in enumerate(_probabilities(config))}
    pixels = _on_rows(pixels, chosen["jitter"], lambda x, d: _jitter(x, d[:, 3:7], config), draws)
    pixels = _on_rows(pixels, chosen["grey"], lambda x, _: _to_grey(x).expand_as(x), draws)
    return _on_rows(pixels, chosen["blur"], lambda x, d: _blur(x, d[:, 7], config.blur_sigma), draws)


def _probabilities(config: AugmentationConfig) -> tuple[tuple[str, float], ...]:
    return ("jitter", config.jitter), ("grey", config.grey), ("blur", config.blur)


def _on_rows(pixels: Tensor, rows: Tensor, change: object, draws: Tensor) -> Tensor:
    index = rows.nonzero().squeeze(1)
    if len(index) == 0:
        return pixels
    return pixels.index_copy(0, index, change(pixels[index], draws[index]))  # type: ignore[operator]


def _split(draw: float, probability: float) -> tuple[float, bool]:
    if draw < probability:
        return draw / probability, True
    return (draw - probability) / (1 - probability), False


def _jitter(x: Tensor, draws: Tensor, config: AugmentationConfig) -> Tensor:
    brightness, contrast, saturation, hue = config.jitter_strength
    x = (x * _factor(draws[:, 0], brightness)).clamp(0, 1)
    mean = _to_grey(x).mean(dim=(2, 3), keepdim=True)
    x = _blend(x, mean, _factor(draws[:, 1], contrast))
    x = _blend(x, _to_grey(x), _factor(draws[:, 2], saturation))
    return _rotate_hue(x, (draws[:, 3] * 2 - 1) * hue)


def _factor(draw: Tensor, strength: float) -> Tensor:
    return (max(0.0, 1 - strength) + draw * (1 + strength - max(0.0, 1 - strength))).view(-1, 1, 1, 1).float()


def _blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (factor * x + (1 - factor) * other).clamp(0, 1)


def _to_grey(x: Tensor) -> Tensor:
    return (x * x.new_tensor(_GREY).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def _rotate_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Rotation of the chroma plane of YIQ, whose angle is the hue; luma is kept."""
    to_yiq = x.new_tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    angle = (turns * 2 * math.pi).float()
    rotation = torch.eye(3, device=x.device).repeat(len(x), 1, 1)
    rotation[:, 1, 1] = rotation[:, 2, 2] = angle.cos()
    rotation[:, 1, 2], rotation[:, 2, 1] = -angle.sin(), angle.sin()
    matrix = torch.linalg.inv(to_yiq) @ rotation @ to_yiq
    return torch.einsum("bij,bjhw->bihw", matrix, x).clamp(0, 1)


def _blur(x: Tensor, draws: Tensor, sigma_range: tuple[float, float]) -> Tensor:
    """Separable Gaussian blur, each picture with its own sigma."""
    low, high = sigma_range
    sigma = (low + (high - low) * draws).clamp(min=1e-3).view(-1, 1).float()
    radius = min(math.ceil(3 * high), min(x.shape[2:]) - 1)
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)
    flat = x.reshape(1, -1, *x.shape[2:])
    flat = F.pad(flat, (radius, radius, radius, radius), mode="reflect")
    flat = F.conv2d(flat, kernel.view(-1, 1, 1, 2 * radius + 1), groups=flat.shape[1])
    flat = F.conv2d(flat, kernel.view(-1, 1, 2 * radius + 1, 1), groups=flat.shape[1])
    return flat.reshape(x.shape)

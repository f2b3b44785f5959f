"""What a model's own configuration says about its pictures: size, resizing, normalisation."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from torch import nn

from protoclip.contract.pixels import PixelSpec

from .torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first

Channels = tuple[float, float, float]
ColorManagement: TypeAlias = Literal["srgb", "stored"]


def pixel_spec(module: nn.Module, color_management: ColorManagement = "stored") -> PixelSpec:
    """The deterministic picture preprocessing that the model's own configuration asks for.

    open_clip's configuration knows nothing of colour profiles, and its own pictures are as stored.

    Interpolation "random" is an open_clip setting for training; its evaluation then uses bicubic.

    Raises:
        ValueError: an interpolation or resize mode that open_clip does not know.
    """
    preprocess = open_clip.get_model_preprocess_cfg(module)
    size = preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    interpolation: Any = preprocess.get("interpolation") or "bicubic"
    fill = int(preprocess.get("fill_color", 0))
    return PixelSpec(
        height=height,
        width=width,
        resize=preprocess.get("resize_mode") or "shortest",
        interpolation="bicubic" if interpolation == "random" else interpolation,
        fill=(fill, fill, fill),
        color_management=color_management,
    )


def normalisation(module: nn.Module) -> tuple[Channels, Channels]:
    """Mean and standard deviation of the model's input, for values in [0, 1].

    Raises:
        ValueError: the model's configuration has neither one number nor three.
    """
    preprocess = open_clip.get_model_preprocess_cfg(module)
    return _channels("mean", preprocess["mean"]), _channels("std", preprocess["std"])


def _channels(name: str, value: Any) -> Channels:
    values = list(value) if isinstance(value, list | tuple) else 3 * [value]
    if len(values) != 3 or not all(isinstance(part, int | float) for part in values):
        raise ValueError(f"{name}={value!r}: must be a number or three")
    return values[0], values[1], values[2]


def preprocess_of_weights(name: str) -> dict[str, Any] | None:
    """The preprocessing on which all published weights of the model agree, None where they differ."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    found = []
    for tag in open_clip.list_pretrained_tags_by_model(name):
        published = open_clip.get_pretrained_cfg(name, tag)
        found.append({key: published[key] for key in keys if key in published})
    return found[0] if found and all(other == found[0] for other in found) else None

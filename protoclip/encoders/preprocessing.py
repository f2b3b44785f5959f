"""What a model's own configuration says about its pictures: size, resizing, normalisation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, TypeAlias

from torch import nn

from protoclip.config.model_settings import PreprocessingConfig
from protoclip.contract.pixels import PixelSpec

from .published import PREPROCESS_KEYS, published, published_tags
from .torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first
from open_clip.transform import PreprocessCfg  # noqa: E402

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
        ValueError: the model's configuration has neither one number nor three, or a std that is not above 0.
    """
    preprocess = open_clip.get_model_preprocess_cfg(module)
    mean, std = _channels("mean", preprocess["mean"]), _channels("std", preprocess["std"])
    if min(std) <= 0:
        raise ValueError(f"std={preprocess['std']!r}: must be above 0")
    return mean, std


def _channels(name: str, value: Any) -> Channels:
    values = list(value) if isinstance(value, list | tuple) else 3 * [value]
    if len(values) != 3 or not all(isinstance(part, int | float) and math.isfinite(part) for part in values):
        raise ValueError(f"{name}={value!r}: must be a number or three")
    return values[0], values[1], values[2]


def preprocess_settings(
    name: str, known: Mapping[str, Any] | None, preprocessing: PreprocessingConfig
) -> dict[str, Any]:
    """`mean`, `std`, `interpolation` and `resize_mode` of the model's pictures.

    Args:
        known: what the weights say of themselves; where they say nothing, what all published weights of the model
            agree on; and open_clip's default for the rest.
        preprocessing: what is set here takes precedence.
    """
    default = asdict(PreprocessCfg())
    base = {key: default[key] for key in PREPROCESS_KEYS} | dict(known or _agreed(name) or {})
    return base | preprocessing.model_dump(exclude_none=True)


def preprocessing_is_known(known: Mapping[str, Any], preprocessing: PreprocessingConfig) -> bool:
    """Whether the weights or the user say mean and std; without a word on resizing it is open_clip's default."""
    return {"mean", "std"} <= known.keys() | preprocessing.model_dump(exclude_none=True).keys()


def origin_of_preprocess(name: str) -> str:
    """Where the preprocessing of weights is from that say nothing, in words."""
    return f"as all published weights of {name} have it" if _agreed(name) else "open_clip's default"


def _agreed(name: str) -> dict[str, Any] | None:
    """The preprocessing on which all published weights of the model agree, None where they differ."""
    found = [published(name, tag).preprocess for tag in published_tags(name)]
    return found[0] if found and all(other == found[0] for other in found) else None

"""ResNet-34 for pictures of 32 × 32 pixels, as papers train it on CIFAR: timm's shrinks them to 8 × 8 at once."""

from __future__ import annotations

from typing import Any

from torch import nn

from .torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import timm  # noqa: E402 - torchvision has to be importable first
from timm.models import is_model, register_model  # noqa: E402

NAME = "protoclip_resnet34_32"


def register_small_resnet() -> None:
    """Makes timm know it; without pretrained weights, of which there are none."""
    if not is_model(NAME):
        register_model(protoclip_resnet34_32)


def protoclip_resnet34_32(
    pretrained: bool = False,
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: object = None,
    **settings: Any,
) -> Any:
    """timm's resnet34 whose first convolution is 3 × 3 without stride, and without the pooling behind it.

    He et al. 2015, arXiv 1512.03385, section 4.2 begins so. A block's last BatchNorm starts at 1, not at timm's 0.
    """
    model: Any = timm.create_model("resnet34", zero_init_last=False, **settings)
    width = model.conv1.out_channels
    model.conv1 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model

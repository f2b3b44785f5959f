"""Choice of device: the CPU or a GPU. The functions import torch; importing this module does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protoclip.config.setting_types import DeviceName
from protoclip.contract.errors import ConfigError

if TYPE_CHECKING:
    import torch


def device_of(name: DeviceName, setting: str) -> torch.device:
    """The device called `name`; auto is this process's GPU where there is one.

    Args:
        setting: the setting or option that chose it, such as `--device cuda`; for the message.

    Raises:
        ConfigError: a GPU was asked for and there is none.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{setting}: torch sees no GPU here: use cpu or auto")
    available = torch.cuda.is_available() and name != "cpu"
    return torch.device("cuda", torch.cuda.current_device()) if available else torch.device("cpu")


def has_bf16() -> bool:
    """Whether there is a GPU that computes in bfloat16: one of NVIDIA's from 2020 on."""
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)

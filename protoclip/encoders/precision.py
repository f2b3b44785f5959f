"""The precision of the towers, and that of losses and clustering."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def normalised(features: Tensor) -> Tensor:
    """Rows of unit norm, computed in float32 at least."""
    return F.normalize(whole_precision(features), dim=-1)


def computing_in(precision: str, device: torch.device) -> torch.autocast:
    """The autocast context of `train.precision`: bf16 is mixed precision, with fp32 it is disabled."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def whole_precision(features: Tensor) -> Tensor:
    """Features in float32; float64 stays."""
    return features if features.dtype == torch.float64 else features.float()

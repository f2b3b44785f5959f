"""The precision that towers compute in, and the one that losses and clusters need of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def normalised(features: Tensor) -> Tensor:
    """Rows of unit norm, computed in float32 at least."""
    return F.normalize(whole_precision(features), dim=-1)


def computing_in(precision: str, device: torch.device) -> torch.autocast:
    """Inside, towers compute as `train.precision` says: bf16 is mixed, fp32 leaves them as they are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def whole_precision(features: Tensor) -> Tensor:
    """float32, unless they have more."""
    return features if features.dtype == torch.float64 else features.float()

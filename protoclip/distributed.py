"""The seams between ranks: every collective of training goes through here.

One process is a world of size 1, in which each of these returns its input.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def world_size() -> int:
    """Number of ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's place among the ranks."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather_with_gradient(features: Tensor) -> Tensor:
    """[b, D] on each rank → [B, D] in the order of ranks; gradients flow back to the rank that made each row."""
    if world_size() == 1:
        return features
    return torch.cat(all_gather(features.contiguous()))


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum over ranks, of a tensor that needs no gradient."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values

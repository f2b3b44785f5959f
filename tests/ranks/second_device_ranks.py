"""As train_shapes.py on a second device, whose collectives refuse tensors of the CPU as NCCL's do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch.distributed as dist
import train_shapes
from second_device import DEVICE, Elsewhere, second_device
from torch import Tensor, nn

from protoclip.distributed import collectives
from protoclip.training import session, towers


def on_the_device(collective: Callable[..., Any]) -> Callable[..., Any]:
    def held(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, Elsewhere):
            raise RuntimeError(f"{collective.__name__}: no backend for a tensor on the CPU")
        return tensor.held

    def call(first: Tensor | list[Tensor], *others: Any, **named: Any) -> Any:
        tensors = [held(tensor) for tensor in first] if isinstance(first, list) else held(first)
        return collective(
            tensors, *(held(other) if isinstance(other, Tensor) else other for other in others), **named
        )

    return call


class Averaged(nn.Module):
    """Gradients averaged as they come, in place of the wrapper, which looks into the tensors' memory."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.hooks = [
            parameter.register_post_accumulate_grad_hook(average)
            for parameter in part.parameters()
            if parameter.requires_grad
        ]

    def forward(self, *arguments: Any) -> Any:
        return self.part(*arguments)

    def __del__(self) -> None:
        for hook in self.hooks:
            hook.remove()


def average(parameter: Tensor) -> None:
    assert parameter.grad is not None
    collectives.all_reduce_sum(parameter.grad)
    parameter.grad /= collectives.world_size()


if __name__ == "__main__":
    with ExitStack() as stack:
        for name in ("all_reduce", "all_gather", "broadcast"):
            stack.enter_context(mock.patch.object(dist, name, on_the_device(getattr(dist, name))))
        stack.enter_context(mock.patch.object(collectives, "_device", return_value=DEVICE))
        stack.enter_context(mock.patch.object(session, "choose_device", return_value=DEVICE))
        stack.enter_context(mock.patch.object(towers, "DistributedDataParallel", Averaged))
        stack.enter_context(second_device())
        train_shapes.main()

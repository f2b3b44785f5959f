"""Gradient accumulation for batches that don't fit in memory: towers run part by part, losses on the whole batch.

Gradients are those of the whole batch (Gao et al., 2021, arXiv 2101.06983): the towers run without gradient, the
losses give the gradient of their outputs, and the towers run again, part by part, to backpropagate it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Losses = TypeVar("Losses")


@dataclass(frozen=True)
class _RandomState:
    cpu: Tensor
    gpu: Tensor | None

    @classmethod
    def now(cls) -> _RandomState:
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu)


def backward_in_parts(
    towers: nn.Module,
    images: Tensor,
    tokens: Tensor,
    num_parts: int,
    backward: Callable[[Tensor, Tensor], Losses],
) -> Losses:
    """Adds the gradients of a batch to the parameters and returns what `backward` returned.

    Generator states are restored for the second run, so dropout masks are the same both times. The towers must
    not compute batch statistics: see `takes_batch_statistics`.

    Args:
        towers: pictures and tokens → outputs [b, D] and [b, D].
        images, tokens: [b, 3, H, W] and [b, T], this rank's.
        num_parts: number of parts that the batch is split into.
        backward: takes both outputs of the whole batch, with gradient, and calls `backward` on the losses.
    """
    parts = list(zip(images.chunk(num_parts), tokens.chunk(num_parts), strict=True))
    states, outputs = [], []
    with torch.no_grad():
        for part in parts:
            states.append(_RandomState.now())
            outputs.append(towers(*part))
    image, text = (torch.cat(side).requires_grad_() for side in zip(*outputs, strict=True))
    result = backward(image, text)
    gradients = zip(_parts_of_gradient(image, parts), _parts_of_gradient(text, parts), strict=True)
    for number, (part, state, gradient) in enumerate(zip(parts, states, gradients, strict=True), start=1):
        state.restore()
        with _without_exchange(towers) if number < len(parts) else nullcontext():
            _carry_on(towers(*part), gradient)
    return result


def takes_batch_statistics(model: nn.Module) -> bool:
    """Whether a row's output in training depends on the other rows: BatchNorm."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules())


def _parts_of_gradient(output: Tensor, parts: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    gradient = output.grad if output.grad is not None else torch.zeros_like(output)
    return list(gradient.split([len(images) for images, _ in parts]))


def _carry_on(outputs: tuple[Tensor, Tensor], gradients: tuple[Tensor, Tensor]) -> None:
    """Backward pass from the towers' outputs; that of a locked tower needs no gradient and is left out."""
    trained = [pair for pair in zip(outputs, gradients, strict=True) if pair[0].requires_grad]
    if trained:
        torch.autograd.backward([output for output, _ in trained], [gradient for _, gradient in trained])


def _without_exchange(towers: nn.Module) -> AbstractContextManager[None]:
    return towers.no_sync() if isinstance(towers, DistributedDataParallel) else nullcontext()

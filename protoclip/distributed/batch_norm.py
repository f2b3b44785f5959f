"""BatchNorm over the rows of all ranks, on CPUs (gloo) and GPUs (NCCL) alike.

`b` rows on this rank, `C` channels, `W` ranks. torch's SyncBatchNorm takes GPU tensors only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from . import collectives


class SyncedBatchNorm(_BatchNorm):
    """BatchNorm of [b, C] or [b, C, H, W] with statistics over all ranks' rows in training.

    All ranks must call it equally often; they may have different b. Computed in at least float32; the output has
    the input's dtype. NaN on one rank gives NaN on all. In eval mode, or on one rank, it is plain BatchNorm.

    Attributes:
        counts_rows: whether this rank's rows are in the statistics; see `uncounted`.
    """

    counts_rows = True

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or collectives.world_size() == 1:
            return super().forward(features)
        result, mean, variance, count = _Normalise.apply(
            features, self.weight, self.bias, self.eps, self.counts_rows
        )
        self._follow(mean, variance * count / (count - 1).clamp(min=1))
        return cast(Tensor, result)

    def _check_input_dim(self, features: Tensor) -> None:
        if features.dim() not in (2, 4):
            raise ValueError(f"SyncedBatchNorm takes [b, C] or [b, C, H, W], not {list(features.shape)}")

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(unbiased_variance.to(self.running_var), share)


@contextmanager
def uncounted(model: nn.Module) -> Iterator[None]:
    """Rows that stand for none: in forward and backward passes of this rank they are in no BatchNorm's statistics.

    A synchronised one normalises them by the other ranks' rows, which there must be; a plain one by its running
    statistics. Losses must not depend on what is made of them.
    """
    trained = [part for part in model.modules() if isinstance(part, _BatchNorm) and part.training]
    synced = [part for part in trained if isinstance(part, SyncedBatchNorm)]
    plain = [part for part in trained if not isinstance(part, SyncedBatchNorm)]
    _count(synced, False)
    nn.ModuleList(plain).eval()
    try:
        yield
    finally:
        _count(synced, True)
        nn.ModuleList(plain).train()


def _count(layers: Iterable[SyncedBatchNorm], counted: bool) -> None:
    for layer in layers:
        layer.counts_rows = counted


class _Normalise(torch.autograd.Function):
    """Features, weight, bias → normalised features; mean [C], biased variance [C] and row count [1] of all ranks.

    Of tensors of the input's size only the input itself is saved for backward, as in torch's own BatchNorm. Rows
    that are not counted must have no gradient; nor do they get one.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, counted: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = _at_least_float32(features)
        mean, variance, count = _statistics(values if counted else values[:0])
        deviation = torch.rsqrt(variance + eps)
        result = (values - _along(mean, values)) * _along(deviation, values)
        if weight is not None and bias is not None:
            result = result * _along(weight, values) + _along(bias, values)
        ctx.save_for_backward(features, weight, mean, deviation, count)
        ctx.counted = counted
        ctx.mark_non_differentiable(mean, variance, count)
        return result.to(features.dtype), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Tensor, *_: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:
        """As Ioffe and Szegedy (2015, arXiv 1502.03167), Section 3, with both sums over all ranks' rows."""
        features, weight, mean, deviation, count = ctx.saved_tensors
        gradient, values = _at_least_float32(gradient), _at_least_float32(features)
        unit = (values - _along(mean, values)) * _along(deviation, values)
        over = _all_but_channels(values)
        to_bias, to_weight = gradient.sum(over), (gradient * unit).sum(over)
        # The parameters' gradients stay local: DistributedDataParallel averages them.
        of_all = collectives.all_reduce_sum(torch.stack([to_bias, to_weight])) / count
        centred = gradient - _along(of_all[0], values) - unit * _along(of_all[1], values)
        scale = deviation if weight is None else deviation * weight
        to_features = (centred * _along(scale, values) * ctx.counted).to(features.dtype)
        if weight is None:
            return to_features, None, None, None, None
        return to_features, to_weight, to_bias, None, None


def _statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], biased variance [C] and number of rows [1] over all ranks, in one collective.

    The ranks' means and squared deviations are merged as in Chan, Golub and LeVeque (1983): E[x²] − E[x]² would
    suffer from cancellation.
    """
    over, channels = _all_but_channels(values), values.shape[1]
    own_count = values.new_full((1,), values.numel() / channels)
    own_mean = values.sum(over) / own_count.clamp(min=1)
    own_squares = (values - _along(own_mean, values)).square().sum(over)
    parts = values.new_zeros(collectives.world_size(), 2 * channels + 1)
    parts[collectives.rank()] = torch.cat([own_mean, own_squares, own_count])
    means, squares, counts = collectives.all_reduce_sum(parts).split([channels, channels, 1], dim=1)
    count = counts.sum(dim=0)
    mean = (means * counts).sum(dim=0) / count
    squares = squares.sum(dim=0) + (counts * (means - mean).square()).sum(dim=0)
    return mean, squares / count, count


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _all_but_channels(values: Tensor) -> list[int]:
    return [dim for dim in range(values.dim()) if dim != 1]


def _along(of_channels: Tensor, values: Tensor) -> Tensor:
    """[C] → [1, C] or [1, C, 1, 1], to broadcast with `values`."""
    return of_channels.view(1, -1, *[1] * (values.dim() - 2))

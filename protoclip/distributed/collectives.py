"""Collectives: all communication between ranks in training goes through this module.

One process is a world of size 1, in which each of these returns its input. All ranks must call the same
collectives in the same order.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from protoclip.config.setting_types import DeviceName
from protoclip.contract.errors import ConfigError, ProtoclipError

T = TypeVar("T")
Rows = TypeVar("Rows", NDArray[np.int64], Tensor)


def world_size() -> int:
    """Number of ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this is rank 0, which writes the files."""
    return rank() == 0


def on_first(work: Callable[[], T]) -> T | None:
    """Runs `work` on the first rank while the others wait; returns its result there and None on the others.

    Raises:
        ProtoclipError: on every rank, if it failed on the first, which raises what `work` raised.
    """
    return _while_others_wait(work if is_first() else None)


def on_first_of_host(work: Callable[[], T]) -> T | None:
    """As `on_first`, on one rank of each host; where the launcher sets no LOCAL_RANK, on every rank."""
    return _while_others_wait(work if int(os.environ.get("LOCAL_RANK", "0")) == 0 else None)


def _while_others_wait(work: Callable[[], T] | None) -> T | None:
    result, failure = None, None
    if work is not None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  raised again below, when the others know
            failure = error
    (failed,) = largest(int(failure is not None))
    if failure is not None:
        raise failure
    if failed:
        raise ProtoclipError("the first rank stopped: its message says why")
    return result


def largest(*numbers: int) -> tuple[int, ...]:
    """Elementwise maximum of the numbers over all ranks."""
    if world_size() == 1:
        return numbers
    return tuple(all_reduce_max(torch.tensor(numbers, device=_device())).tolist())


def from_first(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first rank's `numbers` [n], on every rank; the others' numbers, and how many they are, do not matter."""
    if world_size() == 1:
        return numbers
    (count,) = largest(len(numbers) if is_first() else 0)
    shared = torch.from_numpy(numbers) if is_first() else torch.zeros(count, dtype=torch.int64)
    shared = shared.to(_device())
    if count:
        dist.broadcast(shared, src=0)
    return shared.cpu().numpy()


def own_run(rows: Rows) -> Rows:
    """This rank's shard: `rows` split into equal consecutive parts, one per rank."""
    return rows.reshape(world_size(), -1)[rank()]


def _device() -> torch.device:
    """The device whose tensors the backend takes: NCCL takes GPU tensors only."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


@contextmanager
def ranks(device: DeviceName = "cpu") -> Iterator[None]:
    """Joins the process group of a launcher such as torchrun; does nothing without a launcher or inside a group.

    Args:
        device: where the ranks compute: with NCCL on GPUs, where the setting allows it and there are some, each
            rank on the GPU of its LOCAL_RANK or on its only visible one, and with gloo otherwise.

    Raises:
        ConfigError: this rank has no GPU of its own.
        ProtoclipError: the other ranks can't be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    on_gpus = device != "cpu" and torch.cuda.is_available()
    if on_gpus:
        _take_own_gpu()
    try:
        dist.init_process_group("nccl" if on_gpus else "gloo")
    except (RuntimeError, ValueError) as error:
        raise ProtoclipError(f"the other ranks can't be reached: {str(error).splitlines()[0]}") from error
    try:
        yield
        dist.barrier()
    finally:
        # A DistributedDataParallel wrapper that outlives its process group can block for ever in its destructor.
        gc.collect()
        dist.destroy_process_group()


def _take_own_gpu() -> None:
    place, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if count == 1 and os.environ.get("CUDA_VISIBLE_DEVICES"):
        place = 0  # A launcher that assigns each rank a GPU may make only that one visible.
    if place >= count:
        raise ConfigError(
            f"rank {place} of this machine has no GPU of its own: there are {count}: start as many ranks, or "
            "--set train.device=cpu"
        )
    torch.cuda.set_device(place)


def gather_with_gradient(features: Tensor, sizes: Sequence[int]) -> Tensor:
    """[b, D] on each rank → [B, D] in the order of ranks; gradients flow back to the rank that made each row.

    Args:
        sizes: b of every rank, which may differ and be 0; the same on all ranks.
    """
    if world_size() == 1:
        return features
    return cast(Tensor, _Gather.apply(features, tuple(sizes)))


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum over ranks in place, of a tensor that needs no gradient."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def all_reduce_max(values: Tensor) -> Tensor:
    """Maximum over ranks in place, of a tensor that needs no gradient."""
    if world_size() > 1:
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values


def fill(values: Tensor, places: Tensor, length: int) -> Tensor:
    """[length, ...] with each rank's `values` [n, ...] at its `places` [n]; each place is on exactly one rank."""
    whole = torch.zeros(length, *values.shape[1:], dtype=values.dtype, device=values.device)
    whole[places] = values
    return all_reduce_sum(whole)


def share_buffers(module: nn.Module) -> None:
    """Broadcasts the first rank's buffers, which are those that a checkpoint holds.

    The running statistics of a BatchNorm that is not synchronised differ between ranks.
    """
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def mean(values: Tensor) -> Tensor:
    """Mean over ranks, of a tensor that needs no gradient; the input is left as it is."""
    return values if world_size() == 1 else all_reduce_sum(values.detach().clone()) / world_size()


def gather_sizes(size: int) -> list[int]:
    """Every rank's `size`, in the order of ranks."""
    return cast(list[int], gather_rows(torch.tensor([size])).flatten().tolist())


def gather_rows(row: Tensor) -> Tensor:
    """[W, ...]: every rank's `row`, which has the same shape on all, on the CPU."""
    if world_size() == 1:
        return row.cpu().unsqueeze(0)
    own = row.to(_device()).contiguous()
    rows = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(rows, own)
    return torch.stack(rows).cpu()


def gather_texts(text: str) -> list[str]:
    """Every rank's `text`, not empty, in the order of ranks."""
    own = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    sizes = gather_sizes(len(own))
    padded = own.new_zeros(max(sizes))
    padded[: len(own)] = own
    return [bytes(row[:size].tolist()).decode() for row, size in zip(gather_rows(padded), sizes, strict=True)]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, sizes: tuple[int, ...]) -> Tensor:
        ctx.sizes = sizes
        # Backends gather equal shapes only.
        padded = features.new_zeros(max(sizes), *features.shape[1:])
        padded[: len(features)] = features
        rows = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(rows, padded)
        return torch.cat([own[:size] for own, size in zip(rows, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return all_reduce_sum(gradient.clone()).split(ctx.sizes)[rank()], None

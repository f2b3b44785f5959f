"""A second device where there is none: its tensors lie in memory and refuse to mix with those of the CPU.

What it refuses is what CUDA refuses: operands on two devices, and indices on the device into a tensor on the CPU.
It computes what the CPU computes, so that a whole training run gives the same numbers on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any
from unittest import mock

import safetensors.torch
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from protoclip.training import checkpoint, tensor_files

# A name that torch knows on every build, and that needs no library.
DEVICE = torch.device("lazy")

aten = torch.ops.aten
BETWEEN_DEVICES = (aten._to_copy.default, aten.copy_.default)
INDEXED = (
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
)


class Elsewhere(Tensor):
    """A tensor on the second device; `held` is it in memory."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Elsewhere:
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = Tensor._make_wrapper_subclass(cls, held.size(), device=DEVICE, **layout)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Does the operation in memory; its result is where CUDA would leave it.

    Raises:
        RuntimeError: the operands lie on two devices.
    """
    operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [operand for operand in operands if isinstance(operand, Elsewhere)]
    require_one_device(func, args, operands, there)
    goes_there = bool(there)
    if kwargs.get("device") is not None:
        goes_there = torch.device(kwargs["device"]) == DEVICE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif func is aten.copy_.default:
        goes_there = isinstance(args[0], Elsewhere)
    args, kwargs = tree_map_only(Elsewhere, lambda tensor: tensor.held, (args, kwargs))
    result = func(*args, **kwargs)
    if not goes_there:
        return result
    known = {id(tensor.held): tensor for tensor in there}
    return tree_map_only(Tensor, lambda held: known[id(held)] if id(held) in known else Elsewhere(held), result)


def require_one_device(func: Any, args: Any, operands: list[Tensor], there: list[Elsewhere]) -> None:
    if not there or func in BETWEEN_DEVICES:
        return
    if func in INDEXED:
        if isinstance(args[0], Elsewhere):
            return
        raise RuntimeError(f"{func}: indices should be on the same device as the indexed tensor (cpu)")
    here = [tuple(operand.shape) for operand in operands if not isinstance(operand, Elsewhere) and operand.dim()]
    if here:
        raise RuntimeError(f"{func}: tensors on two devices: {here} are on the CPU")


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """What makes a tensor of numbers, or numbers of a tensor, below the dispatcher."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if args and isinstance(args[0], Elsewhere) and func in (Tensor.new_tensor, Tensor.tolist):
            made = func(args[0].held, *args[1:], **kwargs)
            return made.to(DEVICE) if isinstance(made, Tensor) else made
        return func(*args, **kwargs)


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Inside, the device that is yielded can be used, and what is compiled for known devices takes it too."""
    autocast, no_grad = torch.autocast, torch.no_grad
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    stands_in: list[tuple[Any, str, Callable[..., Any]]] = [
        (torch, "autocast", lambda kind, *rest, **named: autocast("cpu", *rest, **named)),
        (torch.inference_mode, "__enter__", no_grad.__enter__),
        (torch.inference_mode, "__exit__", no_grad.__exit__),
        (import_module("torch.optim.adam"), "_device_dtype_check_for_fused", lambda *_, **__: None),
        (checkpoint, "load_file", _load_file),
        (tensor_files, "load_file", _load_file),
        (tensor_files, "save_file", _save_file),
    ]
    try:
        with ExitStack() as stack:
            for owner, name, work in stands_in:
                stack.enter_context(mock.patch.object(owner, name, work))
            stack.enter_context(_Operations())
            stack.enter_context(_Literals())
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)


def _save_file(tensors: dict[str, Tensor], path: Any) -> None:
    safetensors.torch.save_file({name: tensor.cpu() for name, tensor in tensors.items()}, path)


def _load_file(path: Any, device: str = "cpu") -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in safetensors.torch.load_file(path).items()}

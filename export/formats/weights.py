"""Weights under the names of another library.

A `Place` says which of open_clip's tensors are which of transformers': a table of them, with the number of layers,
is the whole of what is known about a kind of model, in both directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from protoclip.contract.errors import ModelError

# Buffers that transformers saved before 4.31.
_NOT_WEIGHTS = (".position_ids",)


@dataclass(frozen=True)
class Place:
    """The tensors `ours`, joined along their first dimension, are the tensors `theirs`, joined likewise.

    Attributes:
        transposed: theirs are ours transposed: a Linear for a matrix that is multiplied from the right.
        dims: the number of dimensions of theirs, where ours have other ones of size 1 in front.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    transposed: bool = False
    dims: int | None = None


def pair(ours: str, theirs: str) -> list[Place]:
    """Weight and bias of a layer."""
    return [Place((f"{ours}.{part}",), (f"{theirs}.{part}",)) for part in ("weight", "bias")]


def attention(ours: str, theirs: str, separator: str) -> list[Place]:
    """Queries, keys and values: one matrix, `ours` + `separator` + "weight", against three layers."""
    layers = [f"{theirs}.{name}_proj" for name in "qkv"]
    return [
        Place((f"{ours}{separator}{part}",), tuple(f"{layer}.{part}" for layer in layers))
        for part in ("weight", "bias")
    ]


def to_theirs(state: Mapping[str, Tensor], places: Iterable[Place], kind: str) -> dict[str, Tensor]:
    """An open_clip model's weights as a transformers model of `kind` names and cuts them; copies.

    Raises:
        ModelError: a weight is missing, or `kind` has no place for one.
    """
    left, found = dict(state), {}
    for place in places:
        tensor = _joined(left, place.ours, kind)
        tensor = tensor.T if place.transposed else tensor
        tensor = tensor if place.dims is None else _in_dims(tensor, place.dims)
        parts = tensor.chunk(len(place.theirs)) if len(place.theirs) > 1 else (tensor,)
        found.update({name: part.clone().contiguous() for name, part in zip(place.theirs, parts, strict=True)})
    if left:
        raise ModelError(f"{kind} has no place for the weight {min(left)} (and {len(left) - 1} more)")
    return found


def to_ours(
    state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], places: Iterable[Place], kind: str
) -> dict[str, Tensor]:
    """A transformers model's weights under open_clip's names, in `shapes`, float32; copies.

    Raises:
        ModelError: a weight is missing, of another size, or one of them has no place in open_clip's model.
    """
    left = {name: tensor for name, tensor in state.items() if not name.endswith(_NOT_WEIGHTS)}
    found: dict[str, Tensor] = {}
    for place in places:
        joined = _joined(left, place.theirs, kind)
        tensor = (joined.T if place.transposed else joined).float()
        wanted = [shapes[name] for name in place.ours]
        if tensor.numel() != sum(shape.numel() for shape in wanted):
            raise ModelError(
                f"{place.theirs[0]}: is {list(joined.shape)}, and the model that config.json describes has "
                f"{place.ours[0]} {list(wanted[0])}"
            )
        parts = tensor.split([shape[0] for shape in wanted]) if len(wanted) > 1 else (tensor,)
        for name, shape, part in zip(place.ours, wanted, parts, strict=True):
            found[name] = part.reshape(shape).clone().contiguous()
    if left:
        raise ModelError(f"the weight {min(left)} belongs to no {kind} (and {len(left) - 1} more)")
    return found


def _joined(left: dict[str, Tensor], names: Sequence[str], kind: str) -> Tensor:
    missing = next((name for name in names if name not in left), None)
    if missing is not None:
        raise ModelError(f"the weight {missing} is missing, and a {kind} needs it")
    tensors = [left.pop(name) for name in names]
    return torch.cat(tensors) if len(tensors) > 1 else tensors[0]


def _in_dims(tensor: Tensor, dims: int) -> Tensor:
    if tensor.dim() > dims:
        return tensor.reshape(tensor.shape[tensor.dim() - dims :])
    return tensor.reshape((1,) * (dims - tensor.dim()) + tuple(tensor.shape))

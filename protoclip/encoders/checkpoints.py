"""Checkpoints of other programs, read as tensors alone: which forms there are, and what open_clip can load.

Forms: safetensors; what `torch.save` wrote of a state, bare or under `state_dict`, of a model in
DistributedDataParallel (`module.…`) or not, with optimiser and epoch beside it. Among the latter are those of the
reference implementation of ProtoCLIP (https://github.com/megvii-research/protoclip), which has projection heads
and a second temperature in its model, and computes QuickGELU always, unless the image tower is timm's.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from torch import nn

from protoclip.contract.errors import ModelError

from .registry import first_line

_PARALLEL = "module."
# Of the reference implementation's objective, not of its towers.
_HEADS = ("logit_scale_proto", "image_projection_head.", "text_projection_head.")
_FOREIGN_TEXT = "pretrained_text."
# Facts that OpenAI's archives have among their tensors, for a program and not for the towers.
_OPENAI_FACTS = frozenset({"input_resolution", "context_length", "vocab_size"})
_TIMM = "visual.trunk."
_BIG_VISION = (".npz", ".npy")  # which open_clip reads by their own names
_POSITIONS = ("visual.positional_embedding", "positional_embedding", "text.positional_embedding")


def trained_with_quick_gelu(path: Path) -> bool:
    """Whether the checkpoint shows that it was trained with QuickGELU; most show nothing.

    The reference implementation's do, by the second temperature, and OpenAI's, by the facts among their tensors.

    Raises:
        ModelError: as `loadable`.
    """
    names = _names(path)
    if any(name.startswith((_TIMM, f"visual.{_TIMM}")) for name in names):
        return False
    return _HEADS[0] in names or names >= _OPENAI_FACTS


@contextmanager
def loadable(path: Path) -> Iterator[Path]:
    """The path of a checkpoint that open_clip loads: `path` itself, or a temporary one of the towers alone.

    Raises:
        ModelError: an archive of TorchScript, a pickle with more than tensors in it, no checkpoint at all, or a
            model with a text tower that open_clip does not build.
    """
    names = _names(path)
    left_out = {name for name in names if name.startswith(_HEADS) or name in _OPENAI_FACTS}
    if not left_out:
        yield path
        return
    from safetensors.torch import save_file

    state = {name: tensor for name, tensor in _state(path).items() if name not in left_out}
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "towers.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, kept)
        yield kept


def require_tensors(path: Path) -> None:
    """Raises ModelError as `loadable` does."""
    _names(path)


def changes_to_fit(path: Path, module: nn.Module) -> list[str]:
    """What open_clip changes in a checkpoint to fit it to the module, without a word: a line each.

    Raises:
        ModelError: as `loadable`.
    """
    theirs, ours = _shapes(path), {name: tuple(value.shape) for name, value in module.state_dict().items()}
    changes = []
    for name in _POSITIONS:
        has, takes = theirs.get(name), ours.get(name) or ours.get(f"text.{name}")
        if has and takes and has[0] != takes[0]:
            changes.append(
                f"{name} has {has[0]} positions and the model {takes[0]}: they are resampled, and the embeddings "
                "are not what the weights were trained for: name the model of their picture size and context "
                "length, or train it"
            )
    if theirs and "logit_bias" in ours and "logit_bias" not in theirs:
        changes.append("have no logit_bias: it is 0, and the model's sigmoid probabilities are not trained ones")
    return changes


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """By name, without `module.`; `{}` for big_vision's files, as of `_all_names`."""
    if path.suffix in _BIG_VISION:
        return {}
    if path.suffix != ".safetensors":
        return {name: tuple(value.shape) for name, value in _state(path).items() if hasattr(value, "shape")}
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {
            name.removeprefix(_PARALLEL): tuple(file.get_slice(name).get_shape())
            for name in file.keys()  # noqa: SIM118 - not a mapping
        }


def _names(path: Path) -> frozenset[str]:
    names = _all_names(path)
    if any(name.startswith(_FOREIGN_TEXT) for name in names):
        raise ModelError(
            f"weights {path}: have a text tower of another package ({_FOREIGN_TEXT}…), which open_clip does not "
            "build: train one with its own text tower"
        )
    return names


def _all_names(path: Path) -> frozenset[str]:
    if path.suffix in _BIG_VISION:
        return frozenset()
    if path.suffix != ".safetensors":
        return frozenset(_state(path))
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return frozenset(name.removeprefix(_PARALLEL) for name in file.keys())  # noqa: SIM118 - not a mapping
    except Exception as error:  # safetensors raises its own and OSError
        raise ModelError(f"weights {path}: no safetensors file: {first_line(error)}") from error


def _state(path: Path) -> dict[str, Any]:
    """The tensors by name, without `module.`; mapped from the file where its format allows it."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        found: Any = load_file(path)
    else:
        found = _load_tensors(path)
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found or not all(isinstance(name, str) for name in found):
        raise ModelError(
            f"weights {path}: hold no state of a model: a mapping of names to tensors, or one under state_dict"
        )
    return {name.removeprefix(_PARALLEL): value for name, value in found.items()}


def _load_tensors(path: Path) -> Any:
    import torch

    if _is_torchscript(path):
        raise ModelError(
            f"weights {path}: a program in TorchScript, which is never run: OpenAI's weights are published as "
            "tensors too, `--weights openai`; others save `model.state_dict()`"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnpicklingError as error:
        raise ModelError(
            f"weights {path}: no checkpoint, or one with more than tensors in it, which is never read: "
            "save it as safetensors"
        ) from error
    except Exception as error:  # damaged files raise many kinds in torch
        raise ModelError(f"weights {path}: can't be read: {first_line(error)}") from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2].startswith(("code/", "constants.pkl")) for name in archive.namelist())

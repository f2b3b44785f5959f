"""open_clip models: created by name, from a local checkpoint, or from a run folder.

Shapes: `B` batch, `H`, `W` the model's picture size, `T` its context length, `D` joint embedding.
A run folder is also an open_clip model folder: `open_clip.create_model("local-dir:runs/demo")` loads it.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .contract.errors import ModelError
from .contract.pixels import PixelSpec
from .contract.text import TextSpec
from .tokenization import text_spec, tokenizer_json
from .torchvision_cure import cure_torchvision

cure_torchvision()
import open_clip  # noqa: E402 - torchvision has to be importable first

OPEN_CLIP_CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "model.safetensors"
MAX_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class ClipModel:
    """A model with all that is needed to feed it; `module` is in eval mode, float32, on the CPU."""

    module: nn.Module
    source: str
    model_name: str
    model_config: dict[str, Any]
    pixels: PixelSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    text: TextSpec
    tokenizer_json: str
    temperature: float
    logit_bias: float | None
    embedding_dim: int


@cache
def register_architectures() -> None:
    """Adds the architectures that ship with ProtoCLIP to open_clip's list."""
    open_clip.add_model_config(Path(str(files("protoclip") / "architectures")))


def model_config(name: str) -> dict[str, Any]:
    """open_clip's configuration of the model called `name`.

    Raises:
        ModelError: there is no such model; the message names the nearest ones.
    """
    register_architectures()
    config = open_clip.get_model_config(name)
    if config is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "`open_clip.list_models()` lists them"
        raise ModelError(f"model {name!r} is unknown, and there is no folder of that name: {hint}")
    return json.loads(json.dumps(config))


def create_module(name: str, weights: Path | None = None) -> nn.Module:
    """The open_clip model `name` with random weights, or those of a local checkpoint, on the CPU.

    Args:
        weights: a safetensors file or an open_clip checkpoint; the latter is read with torch's
            restricted loader, which builds tensors only.

    Raises:
        ModelError: unknown name, no such file, or weights that do not fit the model.
    """
    model_config(name)
    if weights is not None and not Path(weights).is_file():
        raise ModelError(f"weights {weights}: no such file")
    try:
        with _quiet_root_logger():
            return open_clip.create_model(
                name,
                pretrained=str(weights) if weights is not None else None,
                pretrained_text=False,
                force_preprocess_cfg=_preprocess_of_weights(name),
            )
    except UnpicklingError as error:
        raise ModelError(
            f"weights {weights}: holds more than tensors, which is never read: save it as safetensors"
        ) from error
    except (RuntimeError, KeyError, ValueError, OSError, ImportError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ModelError(f"model {name!r} with weights {weights}: {first_line}") from error


def load_clip(source: str | Path, *, weights: Path | None = None) -> ClipModel:
    """Loads a run folder, an open_clip model folder, or an open_clip model by name.

    Without `weights` a model by name has random weights.

    Raises:
        ModelError: what `source` names does not exist or can't be loaded, or its tokenizer is not here.
    """
    folder = Path(source)
    if (folder / OPEN_CLIP_CONFIG_FILE).is_file():
        return _describe(_load_folder(folder), _folder_identity(folder))
    if folder.is_dir():
        raise ModelError(f"{folder}: no {OPEN_CLIP_CONFIG_FILE} here: name a folder that `protoclip train` wrote")
    if "/" in str(source):
        raise ModelError(f"{source}: no such folder: name a run folder or an open_clip model")
    name = str(source)
    return _describe(create_module(name, weights), (name, name, model_config(name), name))


def encode_images(clip: ClipModel, pixels: Tensor) -> Tensor:
    """uint8 `[B, H, W, 3]` → float32 `[B, D]`, unit norm; a zero tower output gives a zero row."""
    mean = torch.tensor(clip.mean, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(clip.std, device=pixels.device).view(1, 3, 1, 1)
    images = (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std
    return F.normalize(clip.module.encode_image(images).float(), dim=-1)  # type: ignore[operator]


def encode_texts(clip: ClipModel, tokens: Tensor) -> Tensor:
    """int `[B, T]` → float32 `[B, D]`, unit norm."""
    return F.normalize(clip.module.encode_text(tokens.long()).float(), dim=-1)  # type: ignore[operator]


def pixel_spec(module: nn.Module) -> PixelSpec:
    """The deterministic picture preprocessing that the model's own configuration asks for."""
    preprocess = open_clip.get_model_preprocess_cfg(module)
    size = preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    fill = int(preprocess.get("fill_color", 0))
    return PixelSpec(
        height=height,
        width=width,
        resize=preprocess["resize_mode"],
        interpolation=preprocess["interpolation"],
        fill=(fill, fill, fill),
    )


def normalisation(module: nn.Module) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of the model's input, for values in [0, 1]."""
    preprocess = open_clip.get_model_preprocess_cfg(module)
    return tuple(preprocess["mean"]), tuple(preprocess["std"])


def open_clip_folder_config(name: str, module: nn.Module) -> dict[str, Any]:
    """What `open_clip_config.json` holds, so that open_clip loads the folder by itself."""
    return {
        "model_cfg": model_config(name),
        "preprocess_cfg": open_clip.get_model_preprocess_cfg(module),
        "model_name": name,
    }


def tokenizer_for(identifier: str) -> tuple[str, TextSpec]:
    """`tokenizer.json` and the text spec of an open_clip model, by name or `local-dir:` folder.

    Raises:
        ModelError: the tokenizer needs a file that is not on this machine.
    """
    register_architectures()
    try:
        with _quiet_root_logger():
            tokenizer = open_clip.get_tokenizer(identifier)
    except (OSError, ImportError, RuntimeError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ModelError(f"the tokenizer of {identifier!r} can't be loaded: {first_line}") from error
    return tokenizer_json(tokenizer), text_spec(tokenizer)


def _load_folder(folder: Path) -> nn.Module:
    if not (folder / WEIGHTS_FILE).is_file():
        raise ModelError(f"{folder}: no {WEIGHTS_FILE} yet: finish the run with `protoclip train --resume`")
    try:
        with _quiet_root_logger():
            return open_clip.create_model(f"local-dir:{folder}", pretrained_text=False)
    except Exception as error:  # whatever a damaged file makes of safetensors, json or torch
        first_line = str(error).strip().splitlines()[0]
        raise ModelError(f"{folder}: can't be loaded: {first_line}") from error


def _folder_identity(folder: Path) -> tuple[str, str, dict[str, Any], str]:
    config = json.loads((folder / OPEN_CLIP_CONFIG_FILE).read_text())
    name = config.get("model_name", folder.resolve().name)
    return folder.resolve().name, name, config["model_cfg"], f"local-dir:{folder}"


def _describe(module: nn.Module, identity: tuple[str, str, dict[str, Any], str]) -> ClipModel:
    source, name, config, tokenizer_id = identity
    module = module.eval().requires_grad_(False)
    mean, std = normalisation(module)
    json_text, spec = tokenizer_for(tokenizer_id)
    bias = getattr(module, "logit_bias", None)
    return ClipModel(
        module=module,
        source=source,
        model_name=name,
        model_config=config,
        pixels=pixel_spec(module),
        mean=mean,
        std=std,
        text=spec,
        tokenizer_json=json_text,
        temperature=min(float(module.logit_scale.exp().item()), MAX_LOGIT_SCALE),  # type: ignore[operator]
        logit_bias=None if bias is None else float(bias.item()),
        embedding_dim=int(config["embed_dim"]),
    )


def _preprocess_of_weights(name: str) -> dict[str, Any] | None:
    """The preprocessing on which all published weights of the model agree, None where they differ."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    found = []
    for tag in open_clip.list_pretrained_tags_by_model(name):
        published = open_clip.get_pretrained_cfg(name, tag)
        found.append({key: published[key] for key in keys if key in published})
    return found[0] if found and all(other == found[0] for other in found) else None


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """open_clip warns on the root logger that weights are random, also where that is what was asked for."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)

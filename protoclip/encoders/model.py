"""open_clip models: created by name, from a local checkpoint, or from a run folder.

Shapes: `B` batch, `H`, `W` the model's picture size, `T` its context length, `D` joint embedding.
A run folder is also an open_clip model folder: `open_clip.create_model("local-dir:runs/demo")` loads it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protoclip.contract.errors import ModelError
from protoclip.contract.pixels import PixelSpec
from protoclip.contract.text import TextSpec
from protoclip.contract.zero_shot import Probabilities, probabilities_of

from .preprocessing import ColorManagement, normalisation, pixel_spec, preprocess_of_weights
from .registry import first_line, model_config, without_warnings
from .tokenizer_file import tokenizer_from_file
from .tokenizer_lookup import tokenizer_for
from .torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first

OPEN_CLIP_CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "model.safetensors"
COLORS_KEY = "color_management"
MAX_LOGIT_SCALE = 100.0
"""Training clamps to this, as CLIP's does; weights from elsewhere may have more."""


@dataclass(frozen=True)
class ClipModel:
    """A model with its preprocessing and tokenizer; `module` is in eval mode, float32, on the CPU."""

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

    @property
    def probabilities(self) -> Probabilities:
        """Of zero-shot classes: softmax, or sigmoid for a model with a logit bias."""
        return probabilities_of(self.logit_bias)


def create_module(name: str, weights: Path | None = None) -> nn.Module:
    """The open_clip model `name` with random weights, or those of a local checkpoint, on the CPU.

    Args:
        weights: a safetensors file or an open_clip checkpoint; the latter is read with torch's
            restricted loader, which builds tensors only.

    Raises:
        ModelError: unknown name, no such file, weights that do not fit the model, or a configuration that
            open_clip can't build.
    """
    model_config(name)
    if weights is not None and not Path(weights).is_file():
        raise ModelError(f"weights {weights}: no such file")
    try:
        with without_warnings():
            return open_clip.create_model(
                name,
                pretrained=str(weights) if weights is not None else None,
                pretrained_text=False,
                force_preprocess_cfg=preprocess_of_weights(name),
            )
    except UnpicklingError as error:
        raise ModelError(
            f"weights {weights}: no checkpoint, or one with more than tensors in it, which is never read: "
            "save it as safetensors"
        ) from error
    except Exception as error:  # a bad configuration or file can raise anything in open_clip, timm or torch
        beside = "" if weights is None else f" with weights {weights}"
        raise ModelError(f"model {name!r}{beside}: {first_line(error)}") from error


def load_clip(source: str | Path, *, weights: Path | None = None, tokenizer: Path | None = None) -> ClipModel:
    """Loads a run folder, an open_clip model folder, or an open_clip model by name.

    Args:
        weights: of a model by name, as `create_module` reads them; without, its weights are random.
        tokenizer: tokenizer.json for a model whose own is not on this machine.

    Raises:
        ModelError: `source` does not exist or can't be loaded, its tokenizer is not on this machine, or
            `weights` is given with a folder, which has its own.
    """
    folder = Path(source)
    if folder.is_dir() and weights is not None:
        raise ModelError(f"{folder}: has weights of its own: leave {weights} out, or name the model instead")
    if (folder / OPEN_CLIP_CONFIG_FILE).is_file():
        return _describe(_load_folder(folder), _folder_identity(folder), tokenizer, _folder_colors(folder))
    if folder.is_dir():
        raise ModelError(f"{folder}: no {OPEN_CLIP_CONFIG_FILE} here: name a folder that `protoclip train` wrote")
    if "/" in str(source):
        raise ModelError(f"{source}: no such folder: name a run folder or an open_clip model")
    name = str(source)
    colors = "stored" if weights is None else colors_of_weights(weights)
    return _describe(create_module(name, weights), (name, name, model_config(name), name), tokenizer, colors)


def colors_of_weights(weights: Path) -> ColorManagement:
    """The colour management of the run whose weights these are; "stored" for those of any other origin."""
    return _folder_colors(weights.parent) if weights.name == WEIGHTS_FILE else "stored"


def encode_images(clip: ClipModel, pixels: Tensor) -> Tensor:
    """uint8 `[B, H, W, 3]` → float32 `[B, D]`, unit norm; a zero tower output gives a zero row."""
    mean = torch.tensor(clip.mean, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(clip.std, device=pixels.device).view(1, 3, 1, 1)
    images = (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std
    return F.normalize(clip.module.encode_image(images).float(), dim=-1)  # type: ignore[operator]


def encode_texts(clip: ClipModel, tokens: Tensor) -> Tensor:
    """int `[B, T]` → float32 `[B, D]`, unit norm."""
    return F.normalize(clip.module.encode_text(tokens.long()).float(), dim=-1)  # type: ignore[operator]


def temperature_of(module: nn.Module) -> float:
    """The factor of the logits, of any size: SigLIP's published weights have 112.3."""
    return float(module.logit_scale.exp().item())  # type: ignore[operator]


def logit_bias_of(module: nn.Module) -> float | None:
    """The summand of the logits; None for a model without one."""
    bias = getattr(module, "logit_bias", None)
    return None if bias is None else float(bias.item())


def open_clip_folder_config(
    name: str, module: nn.Module, color_management: ColorManagement = "stored"
) -> dict[str, Any]:
    """What `open_clip_config.json` holds, so that open_clip loads the folder by itself.

    open_clip ignores the name and the colour management, which are read by `load_clip`.
    """
    return {
        "model_cfg": model_config(name),
        "preprocess_cfg": open_clip.get_model_preprocess_cfg(module),
        "model_name": name,
        COLORS_KEY: color_management,
    }


def _load_folder(folder: Path) -> nn.Module:
    if not (folder / WEIGHTS_FILE).is_file():
        raise ModelError(f"{folder}: no {WEIGHTS_FILE} yet: finish the run with `protoclip train --resume`")
    try:
        with without_warnings():
            module = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False)
        pixel_spec(module), normalisation(module)
    except Exception as error:  # a damaged file can raise any error in safetensors, json or torch
        raise ModelError(f"{folder}: can't be loaded: {first_line(error)}") from error
    return module


def _folder_colors(folder: Path) -> ColorManagement:
    """As the folder says; "stored" where it says nothing, as runs of earlier versions and open_clip's folders do.

    Raises:
        ModelError: it says something else.
    """
    path = folder / OPEN_CLIP_CONFIG_FILE
    try:
        found: Any = json.loads(path.read_text()).get(COLORS_KEY, "stored")
    except OSError:
        return "stored"
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{path}: can't be read: {first_line(error)}") from error
    if found not in ("srgb", "stored"):
        raise ModelError(f"{path}: {COLORS_KEY} is {found!r}: it must be 'srgb' or 'stored'")
    colors: ColorManagement = found
    return colors


def _folder_identity(folder: Path) -> tuple[str, str, dict[str, Any], str]:
    config = json.loads((folder / OPEN_CLIP_CONFIG_FILE).read_text())
    name = config.get("model_name", folder.resolve().name)
    return folder.resolve().name, name, config["model_cfg"], f"local-dir:{folder}"


def _describe(
    module: nn.Module,
    identity: tuple[str, str, dict[str, Any], str],
    tokenizer: Path | None,
    color_management: ColorManagement,
) -> ClipModel:
    source, name, config, tokenizer_id = identity
    module = module.eval().requires_grad_(False)
    mean, std = normalisation(module)
    given = tokenizer and tokenizer_from_file(tokenizer, config.get("text_cfg", {}))
    json_text, spec = given or tokenizer_for(tokenizer_id)
    return ClipModel(
        module=module,
        source=source,
        model_name=name,
        model_config=config,
        pixels=pixel_spec(module, color_management),
        mean=mean,
        std=std,
        text=spec,
        tokenizer_json=json_text,
        temperature=temperature_of(module),
        logit_bias=logit_bias_of(module),
        embedding_dim=int(config["embed_dim"]),
    )

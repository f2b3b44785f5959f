"""open_clip models: what they are, created by name, and what they compute.

Shapes: `B` batch, `H`, `W` the model's picture size, `T` its context length, `D` joint embedding.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protoclip.config.model_settings import AS_PUBLISHED, PreprocessingConfig
from protoclip.contract.errors import ModelError
from protoclip.contract.pixels import PixelSpec
from protoclip.contract.text import TextSpec
from protoclip.contract.zero_shot import Probabilities, probabilities_of
from protoclip.distributed import collectives

from .checkpoints import changes_to_fit, loadable
from .preprocessing import normalisation, pixel_spec, preprocess_settings
from .registry import first_line, model_config, without_warnings
from .torchvision_workaround import make_torchvision_importable
from .weights import NamedWeights, named_weights

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first

WEIGHTS_FILE = "model.safetensors"
MAX_LOGIT_SCALE = 100.0
"""Training clamps to this, as CLIP's does; weights from elsewhere may have more."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipModel:
    """A model with its preprocessing and tokenizer; `module` is in eval mode, float32, on the CPU.

    `tokenizer_id` is what open_clip is asked for its own tokenizer by, whether or not that is on this machine.
    """

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
    tokenizer_id: str

    @property
    def probabilities(self) -> Probabilities:
        """Of zero-shot classes: softmax, or sigmoid for a model with a logit bias."""
        return probabilities_of(self.logit_bias)


def create_module(
    name: str,
    weights: str | Path | NamedWeights | None = None,
    preprocessing: PreprocessingConfig = AS_PUBLISHED,
) -> nn.Module:
    """The open_clip model `name` with random weights, or the named ones, on the CPU.

    Args:
        weights: as `named_weights` takes and gives them. Where they were trained with QuickGELU and `name`
            computes GELU, the model is the one that computes QuickGELU.
        preprocessing: what is set here takes precedence over what the weights were published with.

    Raises:
        ModelError: unknown name, no such weights, weights that do not fit the model, or a configuration that
            open_clip can't build.
    """
    model_config(name)
    if weights is None:
        return _create(name, None, preprocess_settings(name, None, preprocessing))
    found = weights if isinstance(weights, NamedWeights) else named_weights(name, weights)
    settings = preprocess_settings(found.name, found.preprocess, preprocessing)
    with loadable(found.file) as file:
        try:
            module = _create(found.name, file, settings)
        except ModelError as error:
            raise ModelError(str(error).replace(str(file), str(found.file))) from error
    tell_of_changes(found.file, module)
    return module


def _create(name: str, file: Path | None, settings: dict[str, Any]) -> nn.Module:
    try:
        with without_warnings():
            module = open_clip.create_model(
                name,
                pretrained=None if file is None else str(file.absolute()),
                pretrained_text=False,
                force_preprocess_cfg=settings,
            )
        pixel_spec(module), normalisation(module)
    except Exception as error:  # a bad configuration or file can raise anything in open_clip, timm or torch
        beside = "" if file is None else f" with weights {file}"
        raise ModelError(f"model {name!r}{beside}: {first_line(error)}{_way_out(name, error)}") from error
    return module


def _way_out(name: str, error: Exception) -> str:
    """For a text tower of the hub whose architecture is not on this machine; transformers raises OSError then."""
    if not isinstance(error, OSError):
        return ""
    text = (open_clip.get_model_config(name) or {}).get("text_cfg")
    tower = text.get("hf_model_name") if isinstance(text, dict) else None
    if tower is None:
        return ""
    return f": its text tower is {tower}: once, with a network, `hf download {tower} --include config.json`"


def tell_of_changes(file: Path, module: nn.Module) -> None:
    """Warns, on the first rank, of what open_clip changed in the weights of `file` to fit them."""
    if collectives.is_first():
        for change in changes_to_fit(file, module):
            logger.warning("weights %s: %s", file, change)


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

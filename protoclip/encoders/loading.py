"""Loads a model with its preprocessing and tokenizer, from a run's or open_clip's folder, the hub, or by name.

A run folder is also an open_clip model folder: `open_clip.create_model("local-dir:runs/demo")` loads it.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from torch import nn

from protoclip.config.model_settings import AS_PUBLISHED, PreprocessingConfig
from protoclip.config.weights_names import HUB
from protoclip.contract.errors import ModelError

from .checkpoints import require_tensors
from .model import WEIGHTS_FILE, ClipModel, create_module, logit_bias_of, tell_of_changes, temperature_of
from .preprocessing import (
    ColorManagement,
    normalisation,
    origin_of_preprocess,
    pixel_spec,
    preprocess_settings,
    preprocessing_is_known,
)
from .registry import first_line, model_config, register_architectures, without_warnings
from .tokenizer_file import tokenizer_from_file
from .tokenizer_fit import check_fit
from .tokenizer_lookup import tokenizer_for
from .torchvision_workaround import make_torchvision_importable
from .weights import (
    OPEN_CLIP_CONFIG_FILE,
    NamedWeights,
    checkpoint_in,
    folder_preprocess,
    hub_model,
    named_weights,
    read_folder_config,
)

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first

COLORS_KEY = "color_management"

logger = logging.getLogger(__name__)


def load_clip(
    source: str | Path,
    *,
    weights: str | Path | None = None,
    tokenizer: Path | None = None,
    preprocessing: PreprocessingConfig = AS_PUBLISHED,
) -> ClipModel:
    """Loads a run folder, an open_clip model folder, `hf-hub:org/name`, or an open_clip model by name.

    What is told of the weights, and that their preprocessing is not known, is logged as a warning.

    Args:
        weights: of a model by name, as `create_module` takes them; without, its weights are random.
        tokenizer: tokenizer.json for a model whose own is not on this machine.
        preprocessing: what is set here takes precedence over what the weights say.

    Raises:
        ModelError: `source` does not exist or can't be loaded, its tokenizer is not on this machine, or
            `weights` is given with a folder, which has its own.
    """
    folder, on_hub = Path(source), str(source).startswith(HUB)
    if (folder.is_dir() or on_hub) and weights is not None:
        raise ModelError(f"{source}: has weights of its own: leave {weights} out, or name the model instead")
    if on_hub:
        folder = hub_model(str(source))
    if (folder / OPEN_CLIP_CONFIG_FILE).is_file():
        module = _load_folder(folder, preprocessing)
        identity = _folder_identity(folder, str(source) if on_hub else None)
        return _describe(module, identity, tokenizer, _folder_colors(folder))
    if folder.is_dir():
        raise ModelError(f"{folder}: no {OPEN_CLIP_CONFIG_FILE} here: name a folder that `protoclip train` wrote")
    if "/" in str(source):
        raise ModelError(f"{source}: no such folder: name a run folder or an open_clip model")
    return _load_by_name(str(source), weights, tokenizer, preprocessing)


def _load_by_name(
    name: str, weights: str | Path | None, tokenizer: Path | None, preprocessing: PreprocessingConfig
) -> ClipModel:
    if weights is None:
        module = create_module(name, None, preprocessing)
        return _describe(module, (name, name, model_config(name), name), tokenizer, "stored")
    found = named_weights(name, weights)
    tell_of_weights(found, preprocessing)
    module, label = create_module(name, found, preprocessing), f"{found.name} {found.label}"
    identity = (label, found.name, model_config(found.name), found.name)
    return _describe(module, identity, tokenizer, colors_of_weights(found.file), from_hub=found.from_hub)


def tell_of_weights(found: NamedWeights, preprocessing: PreprocessingConfig) -> None:
    """Warns of what the user may not expect, and where nobody says how the weights' pictures were prepared."""
    for note in found.notes:
        logger.warning("%s", note)
    _tell_of_preprocessing(found.name, found.preprocess, preprocessing, f"weights {found.file}")


def _tell_of_preprocessing(
    name: str, known: dict[str, Any], preprocessing: PreprocessingConfig, whose: str
) -> None:
    if preprocessing_is_known(known, preprocessing):
        return
    taken = preprocess_settings(name, known, preprocessing)
    logger.warning(
        "%s: how their pictures were prepared is not known: mean %s, std %s, %s, %s are taken, %s; "
        "--mean, --std, --interpolation and --resize-mode say it, in training model.preprocessing",
        whose,
        *(taken[key] for key in ("mean", "std", "interpolation", "resize_mode")),
        origin_of_preprocess(name),
    )


def colors_of_weights(weights: Path) -> ColorManagement:
    """The colour management of the run whose weights these are; "stored" for those of any other origin."""
    return _folder_colors(weights.parent) if weights.name == WEIGHTS_FILE else "stored"


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


def _load_folder(folder: Path, preprocessing: PreprocessingConfig) -> nn.Module:
    register_architectures()
    file = checkpoint_in(folder)
    known = folder_preprocess(read_folder_config(folder))
    name = folder.resolve().name
    _tell_of_preprocessing(name, known, preprocessing, str(folder))
    try:
        require_tensors(file)
        with without_warnings():
            module = open_clip.create_model(
                f"local-dir:{folder}",
                pretrained_text=False,
                force_preprocess_cfg=preprocess_settings(name, known, preprocessing),
            )
        pixel_spec(module), normalisation(module)
    except Exception as error:  # a damaged file can raise any error in safetensors, json or torch
        raise ModelError(f"{folder}: can't be loaded: {first_line(error)}") from error
    tell_of_changes(file, module)
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


def _folder_identity(folder: Path, on_hub: str | None) -> tuple[str, str, dict[str, Any], str]:
    config = read_folder_config(folder)
    if on_hub is not None:
        return on_hub, on_hub.rpartition("/")[2], config["model_cfg"], on_hub
    name = config.get("model_name", folder.resolve().name)
    return folder.resolve().name, name, config["model_cfg"], f"local-dir:{folder}"


def _describe(
    module: nn.Module,
    identity: tuple[str, str, dict[str, Any], str],
    tokenizer: Path | None,
    color_management: ColorManagement,
    *,
    from_hub: bool = False,
) -> ClipModel:
    source, name, config, tokenizer_id = identity
    module = module.eval().requires_grad_(False)
    mean, std = normalisation(module)
    given = tokenizer and tokenizer_from_file(tokenizer, config.get("text_cfg", {}))
    if tokenizer and given:
        check_fit(tokenizer, *given, module, config.get("text_cfg", {}), tokenizer_id)
    json_text, spec = given or tokenizer_for(tokenizer_id, fetch=from_hub)
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
        tokenizer_id=tokenizer_id,
    )

"""Weights as they are named, on this machine: published ones, or a local file or folder.

What they say of themselves goes along: how the pictures were prepared that they learned from, and whether with
QuickGELU. Neither can be seen in the weights, and either one wrong gives wrong embeddings without an error.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from protoclip.config.weights_names import HUB, is_published
from protoclip.contract.errors import ModelError

from .checkpoints import trained_with_quick_gelu
from .hub import hub_file, hub_weights
from .published import PREPROCESS_KEYS, published, uses_quick_gelu, with_quick_gelu
from .registry import first_line, model_config
from .torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
from open_clip import CLIPTextCfg, CLIPVisionCfg  # noqa: E402 - torchvision has to be importable first

OPEN_CLIP_CONFIG_FILE = "open_clip_config.json"
# In the order in which open_clip takes them from a folder.
CHECKPOINT_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
)


# Settings that change nothing in a model that has its weights.
_OF_TRAINING = ("patch_dropout", "timm_drop", "timm_drop_path", "timm_model_pretrained", "hf_model_pretrained")


@dataclass(frozen=True)
class NamedWeights:
    """Weights on this machine, with what is known of them.

    Attributes:
        name: the model that they are for: the one that was asked for, or the same with QuickGELU.
        label: as messages and manifests call them.
        file: the checkpoint.
        preprocess: `mean`, `std`, `interpolation` and `resize_mode` of their pictures, as far as that is known.
        notes: what the user should be told, a line each.
        from_hub: whether they come from the hub, so that their tokenizer may as well.
    """

    name: str
    label: str
    file: Path
    preprocess: dict[str, Any]
    notes: tuple[str, ...] = ()
    from_hub: bool = False


def named_weights(name: str, weights: str | Path) -> NamedWeights:
    """The weights for the open_clip model `name`; published ones are downloaded where they are not in the cache.

    Args:
        weights: a tag of open_clip's, `hf-hub:org/name`, or the path of a checkpoint or of a model folder.

    Raises:
        ModelError: there are no such weights, they can't be downloaded, or they are of a model with another
            activation, for which open_clip has no name.
    """
    model_config(name)
    given = str(weights)
    if isinstance(weights, Path) or not is_published(given):
        return _local(name, Path(weights))
    if given.startswith(HUB):
        folder = hub_model(given)
        return _described(name, given, folder, from_hub=True)
    found = published(name, given)
    right, notes = _with_activation(name, found.tag, found.quick_gelu or uses_quick_gelu(model_config(name)))
    return NamedWeights(right, found.tag, found.fetch(), found.preprocess, notes, from_hub=True)


def hub_model(identifier: str) -> Path:
    """The folder of `hf-hub:org/name` in the hub's cache, with configuration and weights; raises as `hub_file`."""
    repository = identifier.removeprefix(HUB)
    hub_file(repository, (OPEN_CLIP_CONFIG_FILE,))
    hub_weights(repository, CHECKPOINT_NAMES)
    # Once more: the repository may have a newer version, with these weights, than the configuration was of.
    return hub_file(repository, (OPEN_CLIP_CONFIG_FILE,)).parent


def checkpoint_in(folder: Path) -> Path:
    """The checkpoint of an open_clip model folder, safetensors before others.

    Raises:
        ModelError: it has none.
    """
    for name in CHECKPOINT_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(
        f"{folder}: no model.safetensors yet: finish the run with `protoclip train --resume`, or, if it is none, "
        f"copy one of {', '.join(CHECKPOINT_NAMES)} into it"
    )


def read_folder_config(folder: Path) -> dict[str, Any]:
    """What `open_clip_config.json` holds, with `model_cfg` in it.

    Raises:
        ModelError: it can't be read, or describes no open_clip model.
    """
    path = folder / OPEN_CLIP_CONFIG_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: can't be read: {first_line(error)}") from error
    if not isinstance(found, dict) or not isinstance(found.get("model_cfg"), dict):
        raise ModelError(f"{path}: not the configuration of an open_clip model: it has no model_cfg")
    return found


def folder_preprocess(config: dict[str, Any]) -> dict[str, Any]:
    """What an `open_clip_config.json` says of the pictures; `{}` where it says nothing."""
    found = config.get("preprocess_cfg")
    values = found if isinstance(found, dict) else {}
    return {key: values[key] for key in PREPROCESS_KEYS if values.get(key) is not None}


def _local(name: str, path: Path) -> NamedWeights:
    if path.is_dir():
        return _described(name, str(path), path)
    if not path.is_file():
        raise ModelError(f"weights {path}: no such file")
    if (path.parent / OPEN_CLIP_CONFIG_FILE).is_file():
        return _described(name, str(path), path.parent, path)
    right: str = name
    notes: tuple[str, ...] = ()
    if trained_with_quick_gelu(path):
        right, notes = _with_activation(name, str(path), True)
    return NamedWeights(right, path.name, path, {}, notes)


def _described(
    name: str, given: str, folder: Path, file: Path | None = None, *, from_hub: bool = False
) -> NamedWeights:
    """Weights with an `open_clip_config.json` beside them."""
    config = read_folder_config(folder)
    right, notes = _with_activation(name, given, uses_quick_gelu(config["model_cfg"]))
    differing = _first_difference(_complete(model_config(right)), _complete(config["model_cfg"]))
    if differing:
        notes = (
            *notes,
            f"weights {given}: their {OPEN_CLIP_CONFIG_FILE} has another {differing} than {right}: "
            f"name {given} in place of {name}, unless that is meant",
        )
    label = given if from_hub else Path(given).name
    return NamedWeights(right, label, file or checkpoint_in(folder), folder_preprocess(config), notes, from_hub)


def _with_activation(name: str, given: str, quick_gelu: bool) -> tuple[str, tuple[str, ...]]:
    """The model of that name with the activation of the weights, and what to tell."""
    has = uses_quick_gelu(model_config(name))
    if quick_gelu == has:
        return name, ()
    if not quick_gelu:
        raise ModelError(
            f"weights {given} were trained with GELU, and {name} computes QuickGELU: name the other model"
        )
    twin = with_quick_gelu(name)
    if twin is None:
        raise ModelError(
            f"weights {given} were trained with QuickGELU, {name} computes GELU, and open_clip has no model "
            f'{name}-quickgelu: add its configuration with "quick_gelu": true'
        )
    return twin, (f"weights {given} were trained with QuickGELU: the model is {twin}, not {name}",)


def _complete(config: dict[str, Any]) -> dict[str, Any]:
    """With open_clip's defaults of both towers: what one configuration leaves out, another may set."""
    towers = {"vision_cfg": asdict(CLIPVisionCfg()), "text_cfg": asdict(CLIPTextCfg())}
    for key, defaults in towers.items():
        kept = {name: value for name, value in defaults.items() if name not in _OF_TRAINING}
        if isinstance(config.get(key), dict):
            config = {**config, key: {**kept, **config[key]}}
    return config


def _first_difference(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> str | None:
    for key in sorted(ours.keys() & theirs.keys()):
        if isinstance(ours[key], dict) and isinstance(theirs[key], dict):
            if found := _first_difference(ours[key], theirs[key], f"{prefix}{key}."):
                return found
        elif ours[key] != theirs[key]:
            return f"{prefix}{key} ({theirs[key]!r}, not {ours[key]!r})"
    return None

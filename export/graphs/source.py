"""What can be exported: a run folder, or an open_clip model by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from protoclip.config.model_settings import AS_PUBLISHED, PreprocessingConfig
from protoclip.config.weights_names import HUB
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.encoders.model import ClipModel
from protoclip.encoders.weights import OPEN_CLIP_CONFIG_FILE
from protoclip.runs.model import load_model
from protoclip.runs.places import find_weights


@dataclass(frozen=True)
class Source:
    """A model, and whether its weights are random."""

    clip: ClipModel
    random_weights: bool


def load_source(
    source: str | Path,
    weights: str | Path | None = None,
    tokenizer: Path | None = None,
    preprocessing: PreprocessingConfig = AS_PUBLISHED,
) -> Source:
    """Loads a run, a checkpoint of it, an open_clip folder or `hf-hub:org/name`, or an open_clip model by name.

    Random weights have a fixed seed, so that two exports have the same fingerprint.
    `tokenizer` is the tokenizer.json of a model whose own is not on this machine. The rest is `load_clip`'s.

    Raises:
        ConfigError: `weights` given with a folder, which has its own.
        ModelError: no such run or model, or it can't be loaded.
    """
    found = find_weights(source)
    folder = Path(source) if found is None else found.folder
    is_folder = folder.is_dir() or str(source).startswith(HUB)
    if is_folder and weights is not None:
        kind = "folder" if folder.is_dir() else "repository"
        raise ConfigError(
            f"--weights {weights}: {source} is a {kind} with weights of its own: leave --weights out"
        )
    if Path(source).is_file():
        raise ModelError(
            f"{source}: is a file: name a run folder, or the open_clip model that it is for and --weights {source}"
        )
    if folder.is_dir():
        _check_towers(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = load_model(source, weights=weights, tokenizer=tokenizer, preprocessing=preprocessing)
    return Source(clip, random_weights=not is_folder and weights is None)


def _check_towers(folder: Path) -> None:
    path = folder / OPEN_CLIP_CONFIG_FILE
    if not path.is_file():
        return  # loading raises the error about the folder
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not the configuration of an open_clip model") from error
    for part, name in (("vision_cfg", "image"), ("text_cfg", "text")):
        if part not in config:
            raise ModelError(f"{folder}: a model without {name} encoder: {OPEN_CLIP_CONFIG_FILE} has no {part}")

"""What can be exported: a run folder, or an open_clip model by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from protoclip.contract.errors import ConfigError
from protoclip.model import ClipModel, load_clip


@dataclass(frozen=True)
class Source:
    """A model, and whether anybody trained it."""

    clip: ClipModel
    random_weights: bool


def load_source(source: str | Path, weights: Path | None = None, tokenizer: Path | None = None) -> Source:
    """Loads what `source` names. Random weights are always the same, so that two exports have one fingerprint.

    `tokenizer` is the tokenizer.json of a model whose own is not on this machine.

    Raises:
        ConfigError: `weights` beside a folder, which has its own.
        ModelError: no such run or model, or it can't be loaded.
    """
    is_folder = Path(source).is_dir()
    if is_folder and weights is not None:
        raise ConfigError(
            f"--weights {weights}: {source} is a folder with weights of its own: leave --weights out"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = load_clip(source, weights=weights, tokenizer=tokenizer)
    return Source(clip, random_weights=not is_folder and weights is None)

"""The model of a run: as it was finished, or as a checkpoint would be if the run were finished there."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

from protoclip.config.model_settings import AS_PUBLISHED, ModelConfig, PreprocessingConfig
from protoclip.contract.errors import ModelError
from protoclip.encoders.interpolation import interpolate_with_start
from protoclip.encoders.loading import load_clip
from protoclip.encoders.model import ClipModel, logit_bias_of, temperature_of
from protoclip.encoders.token_embeddings import move_unseen_tokens, read_word_vectors
from protoclip.encoders.weights import OPEN_CLIP_CONFIG_FILE

from .files import load_run_config, load_trained_tokens
from .places import Weights, find_weights

logger = logging.getLogger(__name__)


def load_model(
    source: str | Path,
    *,
    weights: str | Path | None = None,
    tokenizer: Path | None = None,
    preprocessing: PreprocessingConfig = AS_PUBLISHED,
) -> ClipModel:
    """As `load_clip`, and a run's checkpoints as well: see `find_weights`.

    Its `source` says of which step it is. Where an unfinished run is named, a warning says what is taken.

    Raises:
        ModelError: as `load_clip` and `find_weights`, or `preprocessing` is set for a run, which has its own.
    """
    found = find_weights(source)
    if found is not None and found.step is None and not _written_by_training(found.folder):
        found = None
    if found is not None and preprocessing != AS_PUBLISHED:
        raise ModelError(f"{source}: a run has its preprocessing from its training: leave that of the command out")
    if found is None:
        return load_clip(source, weights=weights, tokenizer=tokenizer, preprocessing=preprocessing)
    if found.step is None:
        return _as_trained(load_clip(source, weights=weights, tokenizer=tokenizer), found)
    if weights is not None:
        raise ModelError(f"{source}: has weights of its own: leave {weights} out, or name the model instead")
    if found.in_place_of_end:
        logger.warning("%s", found.warning)
    clip = load_clip(found.folder, tokenizer=tokenizer)
    _finish(clip, found, load_run_config(found.run).model)
    return dataclasses.replace(_as_trained(clip, found), source=found.name)


def _as_trained(clip: ClipModel, found: Weights) -> ClipModel:
    """With the logits' factor and summand that training ended with: InfoNCE leaves a bias out."""
    alignment = load_run_config(found.run).loss.alignment
    return dataclasses.replace(
        clip,
        temperature=temperature_of(clip.module),
        logit_bias=logit_bias_of(clip.module) if alignment == "sigmoid" else None,
    )


def _written_by_training(folder: Path) -> bool:
    """A folder of the hub can have a config.json of another kind beside open_clip's."""
    try:
        return "model_name" in json.loads((folder / OPEN_CLIP_CONFIG_FILE).read_bytes())
    except (OSError, ValueError, TypeError):
        return False  # loading raises the error about the file


def _finish(clip: ClipModel, found: Weights, config: ModelConfig) -> None:
    """What training does to the weights of its last or best step, in place."""
    if config.word_vectors is not None:
        words = read_word_vectors(clip.module, clip.tokenizer_json, Path(config.word_vectors), config.word_norm)
        move_unseen_tokens(clip.module, words, load_trained_tokens(found.run))
    interpolate_with_start(clip.module, config)

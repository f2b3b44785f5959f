"""The model that a run trains, from the run's `model` section."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from protoclip.config.schema import ModelConfig
from protoclip.contract.model_inputs import ModelInputs
from protoclip.contract.text import Tokenizer
from protoclip.distributed import collectives

from .batch_norm import prepare_batch_norm
from .model import colors_of_weights, create_module
from .preprocessing import normalisation, pixel_spec
from .registry import model_config
from .token_embeddings import WordVectors, read_word_vectors, set_token_embeddings
from .tokenizer_lookup import tokenizer_for

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainableModel:
    """Both towers and the format of their inputs.

    Attributes:
        module: the open_clip model.
        embedding_dim: D.
        word_vectors: what the token embeddings were set to; None where nothing is set.
    """

    module: nn.Module
    inputs: ModelInputs
    embedding_dim: int
    word_vectors: WordVectors | None


def build_model(config: ModelConfig, seed: int, *, sync_batch_norm: bool) -> TrainableModel:
    """Creates the model on the CPU: with random weights, drawn from `seed`, or from `config.weights`.

    Seeds torch's global generator; the heads are then initialised from its state after the model.

    Raises:
        ModelError: an unknown model, or weights that don't fit.
        ConfigError, DataError: word vectors that don't fit.
    """
    torch.manual_seed(seed)
    module = create_module(config.name, None if config.weights is None else Path(config.weights))
    if config.weights is not None:
        _warn_of_other_colors(config, Path(config.weights))
    prepare_batch_norm(module, synchronised=sync_batch_norm)
    json_text, text = tokenizer_for(config.name)
    words = None
    if config.word_vectors is not None:
        words = read_word_vectors(module, json_text, Path(config.word_vectors), config.word_norm)
        set_token_embeddings(module, words)
    return TrainableModel(
        module=module,
        inputs=ModelInputs(
            pixel_spec(module, config.color_management), *normalisation(module), Tokenizer(json_text, text)
        ),
        embedding_dim=int(model_config(config.name)["embed_dim"]),
        word_vectors=words,
    )


def _warn_of_other_colors(config: ModelConfig, weights: Path) -> None:
    known = colors_of_weights(weights)
    if known != config.color_management and collectives.is_first():
        logger.warning(
            "%s learned from pictures with model.color_management=%r, and this run takes %r: set it to the "
            "former, unless the change is meant",
            weights,
            known,
            config.color_management,
        )

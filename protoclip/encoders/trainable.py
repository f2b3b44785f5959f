"""The model that a run trains, from the run's `model` section."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from protoclip.config.schema import ModelConfig
from protoclip.contract.errors import ModelError
from protoclip.contract.model_inputs import ModelInputs
from protoclip.contract.text import Tokenizer
from protoclip.distributed import collectives

from .batch_norm import prepare_batch_norm
from .loading import colors_of_weights, tell_of_weights
from .model import create_module
from .preprocessing import normalisation, pixel_spec
from .registry import model_config
from .token_embeddings import WordVectors, read_word_vectors, set_token_embeddings
from .tokenizer_lookup import tokenizer_for
from .weights import NamedWeights, named_weights

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
        ModelError: an unknown model, or weights that are not there or don't fit.
        ConfigError, DataError: word vectors that don't fit.
    """
    torch.manual_seed(seed)
    found = None if config.weights is None else _start_of(config, config.weights)
    module = create_module(config.name, found, config.preprocessing)
    prepare_batch_norm(module, synchronised=sync_batch_norm)
    json_text, text = tokenizer_for(config.name, fetch=found is not None and found.from_hub)
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


def _start_of(config: ModelConfig, weights: str) -> NamedWeights:
    """The weights to start from, after what is to be told of them.

    A run names the model that it trains, and so the one with the activation of the weights.

    Raises:
        ModelError: as `named_weights`, or `model.name` computes GELU, and the weights were trained with QuickGELU.
    """
    found = named_weights(config.name, weights)
    if found.name != config.name:
        raise ModelError(
            f"model.name={config.name!r} computes GELU, and weights {found.label} were trained with QuickGELU: "
            f"set model.name={found.name!r}"
        )
    if collectives.is_first():
        tell_of_weights(found, config.preprocessing)
        _warn_of_other_colors(config, found)
    return found


def _warn_of_other_colors(config: ModelConfig, found: NamedWeights) -> None:
    known = colors_of_weights(found.file)
    if known != config.color_management:
        logger.warning(
            "%s learned from pictures with model.color_management=%r, and this run takes %r: set it to the "
            "former, unless the change is meant",
            found.file,
            known,
            config.color_management,
        )

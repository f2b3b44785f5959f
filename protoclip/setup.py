"""From a configuration to everything that a training loop needs."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from . import distributed
from .accumulation import takes_batch_statistics
from .batch_norm import prepare_batch_norm
from .config import RunConfig
from .contract.errors import ConfigError
from .contract.text import TextSpec, Tokenizer
from .data.batches import PairLoader
from .data.draws import torch_seed
from .data.holdout import split_pairs
from .data.pictures import Pictures, Progress, readable_pictures
from .data.table import Pairs, load_pairs
from .devices import device_of, has_bf16
from .episode import Plan
from .features import InputPipeline
from .heads import Heads
from .model import create_module, model_config, tokenizer_for
from .optim import Schedule, make_optimizer
from .preprocessing import normalisation, pixel_spec
from .teacher import load_teacher, teacher_labels
from .validation import Validation
from .words import WordVectors, read_word_vectors, start_words

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """A run's parts.

    Attributes:
        rows: [N], the place of each pair among the training pairs as they stand in the data, of which
            there are `num_rows`; they differ where pictures could not be read.
        external_labels: y_ext of each training pair, [N].
        words: where the text tower's words began; None where nothing is set.
        validation: None where none is set.
    """

    config: RunConfig
    device: torch.device
    pairs: Pairs
    rows: NDArray[np.int64]
    num_rows: int
    plan: Plan
    schedule: Schedule
    loader: PairLoader
    module: nn.Module
    heads: Heads
    optimizer: torch.optim.Optimizer
    pipeline: InputPipeline
    external_labels: NDArray[np.int64] | None
    num_prototypes: int
    words: WordVectors | None
    validation: Validation | None


def build_session(config: RunConfig, progress: Progress) -> Session:
    """Reads the data, creates the model, and checks that the numbers fit each other.

    Raises:
        ConfigError, DataError, ModelError: names the setting or file that does not fit.
    """
    device = choose_device(config)
    if device.type == "cuda" and config.train.precision == "fp32" and has_bf16() and distributed.is_first():
        logger.warning("train.precision='fp32' leaves this GPU's units for bf16 idle: 'bf16' uses them")
    module = _create_module(config)
    json_text, text = tokenizer_for(config.model.name)
    words = _word_vectors(config, module, json_text)
    found, held_out = split_pairs(load_pairs(config.data), config)
    pictures, rows = readable_pictures(found, pixel_spec(module), config.data.cache_mb, progress)
    pairs = found if len(rows) == len(found) else found.select(rows)
    plan = _plan(pairs, config, num_left_out=len(found) - len(pairs))
    heads = Heads(int(model_config(config.model.name)["embed_dim"]), **_head_options(config))
    module, heads = module.to(device), heads.to(device)
    return Session(
        config=config,
        device=device,
        pairs=pairs,
        rows=rows,
        num_rows=len(found),
        plan=plan,
        schedule=_schedule(config, plan),
        loader=_loader(config, pairs, pictures, module, json_text, text),
        module=module,
        heads=heads,
        optimizer=make_optimizer(module, heads, config.optim),
        pipeline=InputPipeline(*normalisation(module), config.augmentation, device),
        external_labels=_external_labels(config, pairs, device),
        num_prototypes=_num_prototypes(config, plan),
        words=words,
        validation=_validation(held_out, config, module, Tokenizer(json_text, text)),
    )


def choose_device(config: RunConfig) -> torch.device:
    """The device that train.device asks for.

    Raises:
        ConfigError: a GPU was asked for and there is none.
    """
    name = config.train.device
    return device_of(name, f"train.device={name!r}")


def _create_module(config: RunConfig) -> nn.Module:
    if config.model.lock == "text" and config.episode.lit_episodes > 0:
        raise ConfigError("model.lock='text' leaves nothing to train in episode.lit_episodes: set these to 0")
    torch.manual_seed(torch_seed(config.train.seed, "weights"))
    weights = config.model.weights
    module = create_module(config.model.name, None if weights is None else Path(weights))
    prepare_batch_norm(module, synchronised=config.train.sync_batch_norm)
    if config.train.accumulation > 1 and takes_batch_statistics(module):
        raise ConfigError(
            f"train.accumulation={config.train.accumulation}: {config.model.name} has BatchNorm, whose statistics "
            "would be those of a part and not of the batch: set it to 1, or take a model without"
        )
    if config.loss.alignment == "sigmoid" and getattr(module, "logit_bias", None) is None:
        raise ConfigError(
            f"loss.alignment='sigmoid' needs a model with a logit bias, which {config.model.name} lacks"
        )
    return module


def _word_vectors(config: RunConfig, module: nn.Module, json_text: str) -> WordVectors | None:
    if config.model.word_vectors is None:
        return None
    words = read_word_vectors(module, json_text, Path(config.model.word_vectors), config.model.word_norm)
    start_words(module, words)
    return words


def _plan(pairs: Pairs, config: RunConfig, num_left_out: int) -> Plan:
    parts = distributed.world_size() * config.train.accumulation
    if config.train.batch_size % parts:
        raise ConfigError(
            f"train.batch_size={config.train.batch_size} can't be divided by {distributed.world_size()} ranks "
            f"times train.accumulation={config.train.accumulation}: take a multiple of {parts}"
        )
    return Plan(
        len(pairs),
        config.episode.size,
        config.train.batch_size,
        config.train.seed,
        _groups(pairs, config),
        num_left_out=num_left_out,
    )


def _validation(
    held_out: Pairs | None, config: RunConfig, module: nn.Module, tokenizer: Tokenizer
) -> Validation | None:
    if held_out is None:
        return None
    return Validation(held_out, config, pixel_spec(module), tokenizer, normalisation(module))


def _loader(
    config: RunConfig, pairs: Pairs, pictures: Pictures, module: nn.Module, json_text: str, text: TextSpec
) -> PairLoader:
    return PairLoader(
        pictures,
        pairs.texts,
        Tokenizer(json_text, text),
        pixel_spec(module),
        config.augmentation,
        config.train.seed,
    )


def _groups(pairs: Pairs, config: RunConfig) -> NDArray[np.int64] | None:
    if config.data.group_column is None:
        return None
    return np.unique(pairs.column(config.data.group_column), return_inverse=True)[1].astype(np.int64)


def _head_options(config: RunConfig) -> dict[str, int]:
    return config.model.head.model_dump()


def _schedule(config: RunConfig, plan: Plan) -> Schedule:
    train, episode = config.train, config.episode
    if train.steps is not None:
        num_steps = train.steps
    else:
        num_steps = max(1, math.ceil((train.passes or 0) * plan.num_pairs / plan.batch_size))
    steps_per_episode = plan.num_batches * episode.repeats
    schedule = Schedule(
        num_steps, steps_per_episode, episode.warmup_episodes, episode.lit_episodes, config.has_prototype_loss
    )
    if schedule.lit_start == 0:
        raise ConfigError(
            f"episode.lit_episodes={episode.lit_episodes} leaves no episode in which the image tower learns: "
            f"the run has {schedule.num_episodes}: lower it or give train.steps more"
        )
    return schedule


def _external_labels(config: RunConfig, pairs: Pairs, device: torch.device) -> NDArray[np.int64] | None:
    features = load_teacher(config.teacher, pairs)
    if features is None:
        return None
    seed = torch_seed(config.train.seed, "teacher")
    return teacher_labels(features, config.teacher, config.clustering, seed, device)


def _num_prototypes(config: RunConfig, plan: Plan) -> int:
    wanted = config.clustering.num_prototypes or max(2, plan.size // 10)
    if wanted > plan.size:
        raise ConfigError(
            f"clustering.num_prototypes={wanted} needs at least {wanted} pairs, but an episode has {plan.size}: "
            "lower the one or raise episode.size"
        )
    return wanted

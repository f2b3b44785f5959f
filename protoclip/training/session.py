"""Builds a run's parts from its configuration; each room builds its own part."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError
from protoclip.data.episodes import Plan
from protoclip.data.pictures import Progress
from protoclip.data.random_numbers import torch_seed
from protoclip.data.sections import Section, steps_of
from protoclip.data.training_set import RowsNow, TrainingSet, build_training_set
from protoclip.distributed import collectives
from protoclip.distributed.devices import device_of, has_bf16
from protoclip.encoders.trainable import TrainableModel, build_model
from protoclip.prototypes.episode_clustering import EpisodeClustering, build_clustering
from protoclip.prototypes.heads import Heads
from protoclip.prototypes.palm import random_prototypes
from protoclip.sources import Pairs

from .accumulation import takes_batch_statistics
from .begun import Begun
from .classes import PictureClasses, picture_classes
from .optim import Schedule, make_optimizer
from .validation import Validation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """A run's parts: data, model, optimiser and so on.

    Attributes:
        validation: None where nothing is held out, and where the run is only planned.
        classes: of the pictures, for PALM.
    """

    config: RunConfig
    device: torch.device
    model: TrainableModel
    heads: Heads
    data: TrainingSet
    schedule: Schedule
    optimizer: torch.optim.Optimizer
    clustering: EpisodeClustering
    validation: Validation | None
    classes: PictureClasses | None = None


def build_session(
    config: RunConfig,
    progress: Progress,
    pairs: Pairs | None = None,
    before: Begun | None = None,
    *,
    check: Callable[[RowsNow], None] | None = None,
    only_planned: bool = False,
    phase: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> Session:
    """Reads the data, creates the model, and checks that the numbers fit each other.

    Args:
        pairs: to train on instead of those of `data.path`.
        before: what the run decided already, if it is resumed.
        check: of its rows, on the first rank.
        only_planned: neither are tokens of large data made and kept, nor pictures to validate on read.
        phase: entered for each part of the work with its name.

    Raises:
        ConfigError, DataError, ModelError: names the setting or file that does not fit.
    """
    device = choose_device(config)
    if device.type == "cuda" and config.train.precision == "fp32" and has_bf16() and collectives.is_first():
        logger.warning("train.precision='fp32' leaves this GPU's units for bf16 idle: 'bf16' uses them")
    if config.model.lock == "text" and config.episode.lit_episodes > 0:
        raise ConfigError("model.lock='text' leaves nothing to train in episode.lit_episodes: set these to 0")
    seed = torch_seed(config.train.seed, "weights")
    with phase("building the model"):
        model = build_model(config.model, seed, sync_batch_norm=config.train.sync_batch_norm)
    _check_model(model.module, config)
    num_ranks = collectives.world_size()
    before = before or Begun()
    with phase("reading the data"):
        data = build_training_set(
            config,
            model.inputs,
            device,
            progress,
            num_ranks=num_ranks,
            pairs=pairs,
            order=before.order,
            before=before.rows,
            check=None if check is None else lambda rows: collectives.on_first(lambda: check(rows)),
            write_cache=not only_planned,
        )
    heads = Heads(model.embedding_dim, **config.model.head.model_dump())
    classes = picture_classes(config, data) if config.is_palm else None
    if classes is not None:
        count, draw = len(classes.names) * config.palm.per_class, torch_seed(config.train.seed, "palm prototypes")
        heads.add_prototypes(random_prototypes(count, heads.projection_dim, draw))
    model.module.to(device), heads.to(device)
    with phase("reading the teacher" if config.teacher.path else "making the plan"):
        clustering = build_clustering(config, data.pairs, data.plan, device, before.teacher_labels)
    with phase("reading the validation pictures"):
        held_out = None if only_planned else data.held_out
        validation = None if held_out is None else Validation(held_out, config, model.inputs, progress)
    return Session(
        config=config,
        device=device,
        model=model,
        heads=heads,
        data=data,
        schedule=schedule_of(config, data.plan),
        optimizer=make_optimizer(model.module, heads, config.optim),
        clustering=clustering,
        validation=validation,
        classes=classes,
    )


def choose_device(config: RunConfig) -> torch.device:
    """The device that train.device asks for.

    Raises:
        ConfigError: a GPU was asked for and there is none.
    """
    name = config.train.device
    return device_of(name, f"train.device={name!r}")


def _check_model(module: nn.Module, config: RunConfig) -> None:
    if config.train.accumulation > 1 and takes_batch_statistics(module):
        raise ConfigError(
            f"train.accumulation={config.train.accumulation}: {config.model.name} has BatchNorm, whose statistics "
            "would be those of a part and not of the batch: set it to 1, or take a model without"
        )
    if config.loss.alignment == "sigmoid" and getattr(module, "logit_bias", None) is None:
        raise ConfigError(
            f"loss.alignment='sigmoid' needs a model with a logit bias, which {config.model.name} lacks"
        )


def schedule_of(config: RunConfig, plan: Plan, sections: Sequence[Section] | None = None) -> Schedule:
    """The stages of a run of that configuration.

    A pass goes through the rows that there are: where rows were added, the rest of `train.passes` is through all.

    Args:
        sections: in place of those of the plan.

    Raises:
        ConfigError: no episode is left in which the image tower learns.
    """
    train, episode = config.train, config.episode
    steps_per_episode = plan.num_batches * episode.repeats
    num_steps = train.steps
    if num_steps is None:
        of_run = sections or plan.sections
        num_steps = steps_of(of_run, train.passes or 0.0, steps_per_episode, plan.batch_size)
    schedule = Schedule(
        num_steps,
        steps_per_episode,
        episode.warmup_episodes,
        episode.lit_episodes,
        config.has_prototype_loss,
        config.is_palm,
    )
    if schedule.lit_start == 0:
        raise ConfigError(
            f"episode.lit_episodes={episode.lit_episodes} leaves no episode in which the image tower learns: "
            f"the run has {schedule.num_episodes}: lower it or give train.steps more"
        )
    return schedule

"""The training loop: episodes of plan, extract, cluster, translate, train.

`train` writes a run folder: config.json, metrics.jsonl, checkpoints/, and at the end model.safetensors,
heads.safetensors, prototypes.safetensors and open_clip_config.json.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from . import distributed
from .checkpoint import (
    Position,
    TrainState,
    last_checkpoint,
    load_best,
    load_checkpoint,
    random_states,
    save_best,
    save_checkpoint,
)
from .config import RunConfig
from .data.batches import Batch
from .episode import Episode
from .episode_targets import cluster_episode, own_rows, requests_for
from .interpolation import interpolate_with_start
from .interruption import Interruption
from .metrics import MetricsLog, read_metrics
from .optim import Stage
from .progress import TrainProgress
from .prototypes import EpisodeTargets
from .run_folder import check_run, finish_run, start_run
from .setup import Session, build_session
from .step import StepLosses, TrainStep
from .validation import Best, shared
from .words import carry_words

logger = logging.getLogger(__name__)


def train(config: RunConfig, run: Path, *, resume: bool = False, quiet: bool = False) -> Path:
    """Trains as `config` says and fills the folder `run`.

    Args:
        resume: go on from the last checkpoint in `run`; without one, start afresh.
        quiet: no progress bars.

    Raises:
        ConfigError, DataError, ModelError: something in the configuration does not fit; names it.
        ProtoclipError: the loss diverged, the disk is full, or `run` holds a finished run.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was saved, or the run was finished.
    """
    with distributed.ranks():
        _train(config, run, resume=resume, quiet=quiet or not distributed.is_first())
    return run


def _train(config: RunConfig, run: Path, *, resume: bool, quiet: bool) -> None:
    distributed.on_first(lambda: check_run(config, run, resume=resume))
    with TrainProgress(quiet=quiet) as progress:
        session = build_session(config, progress.reading)
        distributed.on_first(lambda: start_run(config, run))
        with Interruption() as interruption:
            trainer = Trainer(session, run, progress, interruption)
            try:
                trainer.run(last_checkpoint(run) if resume else None)
            finally:
                trainer.release()
            _finish(session, run, trainer.targets)
            interruption.raise_if_asked(f"{run}: the run is finished all the same")


def _finish(session: Session, run: Path, targets: EpisodeTargets | None) -> None:
    if session.validation is not None and session.config.validation.keep == "best":
        targets = load_best(run, session.module, session.heads)
    if session.words is not None:
        carry_words(session.module, session.words, session.loader.token_ids)
    interpolate_with_start(session.module, session.config.model)
    distributed.on_first(lambda: finish_run(run, session, targets))


class Trainer:
    """Goes through the episodes of a session.

    Attributes:
        targets: those of the last episode of the main stage.
    """

    def __init__(self, session: Session, run: Path, progress: TrainProgress, interruption: Interruption) -> None:
        self._session, self._run, self._progress, self._interruption = session, run, progress, interruption
        self._step = TrainStep(session.module, session.heads, session.optimizer, session.schedule, session.config)
        self._substitutes = 0
        self._started = time.monotonic()
        self._best: Best | None = None
        self.targets: EpisodeTargets | None = None

    def run(self, checkpoint: Path | None) -> None:
        """All episodes, from the checkpoint on where there is one."""
        session, position = self._session, Position()
        if checkpoint is not None:
            state = TrainState(session.module, session.heads, session.optimizer)
            position, self.targets = load_checkpoint(checkpoint, state)
        self._started = time.monotonic() - position.seconds
        self._progress.start(session.schedule.num_steps, position.step, session.plan.batch_size)
        with MetricsLog(self._run, position.step, silent=not distributed.is_first()) as self._log:
            self._best = shared(Best.of_lines(read_metrics(self._run)) if distributed.is_first() else None)
            while position.step < session.schedule.num_steps and not self._patience_ended:
                position = self._episode(position)
        if self._substitutes:
            logger.warning("%d unreadable pictures were replaced by following ones", self._substitutes)

    def release(self) -> None:
        """Lets go of the distributed wrappers, which must not outlive their group."""
        self._step.release()

    def _episode(self, position: Position) -> Position:
        session = self._session
        episode = session.plan.episode(position.episode)
        stage = session.schedule.stage(position.episode)
        if stage is Stage.MAIN and (self.targets is None or self.targets.number != episode.number):
            self.targets = self._make_targets(episode, position.step)
        self._step.enter(stage)
        left = min(session.schedule.steps_per_episode, session.schedule.num_steps - position.step + position.batch)
        for number, batch in enumerate(self._batches(episode, position.batch, left), start=position.batch):
            losses, norm = self._train_on(batch, position.step, stage)
            whole = number + 1 == session.schedule.steps_per_episode
            position = Position(
                step=position.step + 1,
                episode=episode.number + whole,
                batch=0 if whole else number + 1,
                seconds=time.monotonic() - self._started,
            )
            self._after_step(position, stage, losses, norm)
            if self._patience_ended:
                break
        return position

    @property
    def _patience_ended(self) -> bool:
        patience = self._session.config.validation.patience
        return patience is not None and self._best is not None and self._best.misses >= patience

    def _train_on(self, batch: Batch, step: int, stage: Stage) -> tuple[StepLosses, torch.Tensor]:
        self._substitutes += batch.num_substitutes
        images, tokens = self._session.pipeline(batch)
        positions = batch.positions.to(images.device)
        return self._step(step, images, tokens, positions, self.targets if stage is Stage.MAIN else None)

    def _batches(self, episode: Episode, first: int, last: int) -> Iterator[Batch]:
        session = self._session
        repeats = session.config.episode.repeats
        requests = [
            requests_for(episode, own_rows(positions), repeat, repeats)
            for repeat in range(repeats)
            for positions in session.plan.batches(episode, repeat)
        ]
        return session.loader.stream(requests[first:last], session.config.train.num_workers)

    def _make_targets(self, episode: Episode, step: int) -> EpisodeTargets:
        targets, measured = cluster_episode(self._session, episode)
        self._log.write("episode", episode=episode.number, step=step, **measured)
        return targets

    def _after_step(self, position: Position, stage: Stage, losses: StepLosses, norm: torch.Tensor) -> None:
        config = self._session.config.train
        last = position.step == self._session.schedule.num_steps
        self._interruption.agree()
        self._progress.step(position.step)
        if position.step % config.log_every_steps == 0 or last:
            self._log_step(position, stage, losses, norm)
        if position.step % self._session.config.validation.every_steps == 0 or last:
            self._validate(position, stage)
        last = last or self._patience_ended
        if position.step % config.checkpoint_every_steps == 0 or last or self._interruption.asked:
            self._save(position)
        if not last:
            self._interruption.raise_if_asked(f"saved step {position.step}: go on with --resume")

    def _validate(self, position: Position, stage: Stage) -> None:
        """Before the checkpoint is saved, so that one never lacks a measurement of its own step."""
        session, started = self._session, time.monotonic()
        if session.validation is None:
            return
        scores = session.validation.measure(session.module)
        self._step.enter(stage)
        metric = session.config.validation.metric
        self._best = Best.after(self._best, position.step, scores[metric])
        measured = {"step": position.step, "metric": metric, "value": scores[metric], **scores}
        if self._best.step == position.step:
            distributed.on_first(
                lambda: save_best(self._run, measured, session.module, session.heads, self.targets)
            )
        seconds = time.monotonic() - started
        self._log.write("validation", **measured, seconds=seconds)
        self._progress.validated(metric, scores[metric], self._best.value)

    def _save(self, position: Position) -> None:
        session, keep = self._session, self._session.config.train.keep_checkpoints
        state, random = TrainState(session.module, session.heads, session.optimizer), random_states()
        distributed.on_first(lambda: save_checkpoint(self._run, position, state, self.targets, random, keep))

    def _log_step(self, position: Position, stage: Stage, losses: StepLosses, norm: torch.Tensor) -> None:
        session = self._session
        values = {
            "loss": losses.total,
            "loss_clip": losses.clip,
            "loss_proto": losses.proto,
            "loss_ext": losses.external,
        }
        scalars = {
            name: None if value is None else distributed.mean(value).item() for name, value in values.items()
        }
        rates = {f"lr_{group['tower']}": group["lr"] for group in session.optimizer.param_groups}
        pairs_per_s = self._progress.pairs_per_second
        self._log.write(
            "step",
            step=position.step,
            **{"pass": position.step * session.plan.batch_size / (session.plan.num_pairs)},
            episode=(position.step - 1) // session.schedule.steps_per_episode,
            stage=str(stage),
            **scalars,
            **rates,
            scale=session.module.logit_scale.exp().item(),  # type: ignore[operator]
            scale_proto=session.heads.log_scale.exp().item(),
            grad_norm=norm.item(),
            pairs_per_s=pairs_per_s,
            seconds=position.seconds,
        )
        self._progress.show(str(stage), scalars["loss"] or 0.0)

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
    Snapshot,
    TrainState,
    keep_best,
    load_best,
    random_states,
    restore_last,
    save_best,
    save_checkpoint,
)
from .config import RunConfig
from .data.batches import Batch
from .episode import Episode, requests_for
from .episode_targets import cluster_episode, external_clusters
from .feature_source import feature_source
from .interpolation import interpolate_with_start
from .interruption import Interruption
from .metrics import MetricsLog, read_metrics
from .optim import Stage
from .progress import TrainProgress
from .prototypes import EpisodeTargets
from .run_folder import check_run, finish_run, start_run
from .setup import Session, build_session
from .step import Rows, StepLosses, TrainStep
from .step_log import step_values
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
    with distributed.ranks(config.train.device):
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
                trainer.run(resume=resume)
            finally:
                trainer.release()
            distributed.on_first(lambda: _finish(session, run, trainer))
            interruption.agree()
            interruption.raise_if_asked(f"{run}: the run is finished all the same")


def _finish(session: Session, run: Path, trainer: Trainer) -> None:
    """On the first rank alone, which may be the only one that sees the folder."""
    targets = trainer.targets
    if trainer.best is not None and session.config.validation.keep == "best":
        targets = load_best(run, trainer.best.step, session.module, session.heads)
    if session.words is not None:
        carry_words(session.module, session.words, session.loader.token_ids)
    interpolate_with_start(session.module, session.config.model)
    finish_run(run, session, targets)


class Trainer:
    """Goes through the episodes of a session.

    Attributes:
        targets: those of the last episode of the main stage.
        best: the best validation; None without one.
    """

    def __init__(self, session: Session, run: Path, progress: TrainProgress, interruption: Interruption) -> None:
        self._session, self._run, self._progress, self._interruption = session, run, progress, interruption
        self._step = TrainStep(session.module, session.heads, session.optimizer, session.schedule, session.config)
        self._state = TrainState(session.module, session.heads, session.optimizer)
        self._features = feature_source(session)
        self._external: torch.Tensor | None = None
        self._substitutes = 0
        self._started = self._saved_at = time.monotonic()
        self.best: Best | None = None
        self._saved_best: Best | None = None
        self.targets: EpisodeTargets | None = None

    def run(self, *, resume: bool) -> None:
        """All episodes, from the last checkpoint on if the run is resumed and has one."""
        session = self._session
        position = self._resume() if resume else Position()
        self._started = time.monotonic() - position.seconds
        self._progress.start(session.schedule.num_steps, position.step, session.plan.batch_size)
        with MetricsLog(self._run, position.step, silent=not distributed.is_first()) as self._log:
            self.best = shared(Best.of_lines(read_metrics(self._run)) if distributed.is_first() else None)
            self._saved_best = self.best
            while position.step < session.schedule.num_steps and not self._patience_ended:
                position = self._episode(position)
        if self._substitutes:
            logger.warning("%d unreadable pictures were replaced by following ones", self._substitutes)

    def release(self) -> None:
        """Lets go of the distributed wrappers, which must not outlive their group."""
        self._step.release()

    def _resume(self) -> Position:
        snapshot = restore_last(self._run, self._state)
        if snapshot is None:
            return Position()
        self.targets = snapshot.targets
        if snapshot.bank:
            self._features.restore(snapshot.bank)
        return snapshot.position

    def _episode(self, position: Position) -> Position:
        session = self._session
        episode = session.plan.episode(position.episode)
        stage = session.schedule.stage(position.episode)
        if stage is Stage.MAIN:
            self._prepare(episode, position.step)
        if position.batch == 0:
            self._features.begin()
        self._step.enter(stage)
        left = min(session.schedule.steps_per_episode, session.schedule.num_steps - position.step + position.batch)
        for number, batch in enumerate(self._batches(episode, position.batch, left), start=position.batch):
            losses, norm = self._train_on(batch, number, position.step, stage)
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

    def _prepare(self, episode: Episode, step: int) -> None:
        """Targets for an episode of the main stage, unless a checkpoint held them."""
        self._external = external_clusters(self._session, episode.number)
        number = self._features.episode_of(episode.number)
        if self.targets is not None and self.targets.number == number:
            return
        started = time.monotonic()
        shard = self._features.shard(episode)
        seconds = time.monotonic() - started
        self.targets, measured = cluster_episode(self._session, number, shard, self.targets)
        self._log.write("episode", episode=episode.number, step=step, **measured, seconds_extract=seconds)

    @property
    def _patience_ended(self) -> bool:
        patience = self._session.config.validation.patience
        return patience is not None and self.best is not None and self.best.misses >= patience

    def _train_on(self, batch: Batch, number: int, step: int, stage: Stage) -> tuple[StepLosses, torch.Tensor]:
        self._substitutes += batch.num_substitutes
        images, tokens = self._session.pipeline(batch)
        positions = batch.positions.to(images.device)
        external = self._external[positions] if self._external is not None else None
        targets = self.targets if stage is Stage.MAIN else None
        losses, norm = self._step(step, images, tokens, Rows(positions, external), targets)
        last_repeat = number >= self._session.schedule.steps_per_episode - self._session.plan.num_batches
        if last_repeat and losses.h_image is not None and losses.h_text is not None:
            self._features.keep(losses.h_image, losses.h_text, positions)
        return losses, norm

    def _batches(self, episode: Episode, first: int, last: int) -> Iterator[Batch]:
        session = self._session
        repeats = session.config.episode.repeats
        requests = [
            requests_for(episode, distributed.own_run(positions), repeat, repeats)
            for repeat in range(repeats)
            for positions in session.plan.batches(episode, repeat)
        ]
        return session.loader.stream(requests[first:last], session.config.train.num_workers)

    def _after_step(self, position: Position, stage: Stage, losses: StepLosses, norm: torch.Tensor) -> None:
        config = self._session.config.train
        last = position.step == self._session.schedule.num_steps
        due = self._interruption.agree(self._is_time_to_save)
        self._progress.step(position.step)
        if position.step % config.log_every_steps == 0 or last:
            self._log_step(position, stage, losses, norm)
        if position.step % self._session.config.validation.every_steps == 0 or last:
            self._validate(position, stage)
        last = last or self._patience_ended
        if position.step % config.checkpoint_every_steps == 0 or due or last or self._interruption.asked:
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
        self.best = Best.after(self.best, position.step, scores[metric])
        measured = {"step": position.step, "metric": metric, "value": scores[metric], **scores}
        if self.best.step == position.step:
            distributed.on_first(
                lambda: save_best(self._run, measured, session.module, session.heads, self.targets)
            )
            self._keep_best(self.best, self._saved_best)
        seconds = time.monotonic() - started
        self._log.write("validation", **measured, seconds=seconds)
        self._progress.validated(metric, scores[metric], self.best.value)

    @property
    def _is_time_to_save(self) -> bool:
        minutes = self._session.config.train.checkpoint_every_minutes
        return 0 < minutes * 60 <= time.monotonic() - self._saved_at

    def _save(self, position: Position) -> None:
        snapshot = Snapshot(position, self.targets, self._features.tensors(), random_states())
        keep = self._session.config.train.keep_checkpoints
        distributed.on_first(lambda: save_checkpoint(self._run, snapshot, self._state, keep))
        self._saved_at, self._saved_best = time.monotonic(), self.best
        self._keep_best(self.best)

    def _keep_best(self, *measurements: Best | None) -> None:
        steps = {best.step for best in measurements if best is not None}
        distributed.on_first(lambda: keep_best(self._run, steps))

    def _log_step(self, position: Position, stage: Stage, losses: StepLosses, norm: torch.Tensor) -> None:
        values = step_values(self._session, position, stage, losses, norm)
        self._log.write("step", **values, pairs_per_s=self._progress.pairs_per_second)
        self._progress.show(str(stage), values["loss"])

"""The training loop; each episode: plan, extract features, cluster, back translation, train."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import torch

from protoclip.data.batches import Batch
from protoclip.data.episodes import Episode
from protoclip.distributed import collectives
from protoclip.distributed.interruption import Interruption
from protoclip.prototypes.feature_source import Kept, feature_source
from protoclip.prototypes.objective import Rows
from protoclip.prototypes.targets import EpisodeTargets
from protoclip.runs.metrics import MetricsLog, read_metrics
from protoclip.sources.left_out import LEFT_OUT_FILE, write_left_out

from .checkpoint import (
    Position,
    Snapshot,
    TrainState,
    keep_best,
    random_states,
    restore_last,
    save_best,
    save_checkpoint,
)
from .extraction import extract_episode
from .optim import Stage
from .palm_step import PalmStep
from .progress import TrainProgress
from .requests import requests_ahead, training_requests
from .session import Session
from .step import ExtraLoss, StepLosses, TrainStep
from .step_log import loss_values, optimizer_values, progress_values
from .validation import Best, shared
from .waiting import DataWait

logger = logging.getLogger(__name__)


class Trainer:
    """Goes through the episodes of a session.

    Attributes:
        targets: those of the last episode of the main stage.
        best: the best validation; None without one.
    """

    def __init__(
        self,
        session: Session,
        run: Path,
        progress: TrainProgress,
        interruption: Interruption,
        extra_losses: Mapping[str, ExtraLoss] | None = None,
    ) -> None:
        self._session, self._run, self._progress, self._interruption = session, run, progress, interruption
        self._config, self._schedule, self._data = session.config, session.schedule, session.data
        self._module, self._heads = session.model.module, session.heads
        make_step = PalmStep if session.config.is_palm else TrainStep
        self._step = make_step(
            self._module, self._heads, session.optimizer, session.schedule, session.config, extra_losses
        )
        self._state = TrainState(self._module, self._heads, session.optimizer)
        precision = session.config.train.precision
        counted = partial(progress.counted, "extracting features, batches")
        extract = partial(extract_episode, self._module, self._heads, self._data, precision, counted)
        self._features = feature_source(session.config, self._data.plan, session.device, extract)
        self._external: torch.Tensor | None = None
        self._waiting = DataWait()
        self._started = self._saved_at = time.monotonic()
        self.best: Best | None = None
        self._saved_best: Best | None = None
        self.targets: EpisodeTargets | None = None

    def run(self, *, resume: bool) -> None:
        """Trains all episodes, from the last checkpoint on if the run is resumed and has one."""
        position = self._resume() if resume else Position()
        self._list_left_out()
        self._data.feed.expect(requests_ahead(self._data, self._schedule, position, self._is_extracted))
        self._started = time.monotonic() - position.seconds
        self._progress.start(self._schedule.num_steps, position.step, self._data.plan.batch_size)
        with MetricsLog(self._run, position.step, silent=not collectives.is_first()) as self._log:
            self.best = shared(Best.of_lines(read_metrics(self._run)) if collectives.is_first() else None)
            self._saved_best = self.best
            while not self._ends_at(position):
                position = self._episode(position)
        self._share_left_out()
        found = self._data.left_out.found
        if found and collectives.is_first():
            logger.warning("%d pairs were left out of their batches: their pictures can't be read", len(found))

    def release(self) -> None:
        """Ends the workers, and drops the DistributedDataParallel wrappers, which must not outlive their group."""
        self._data.feed.close()
        self._step.release()

    def _resume(self) -> Position:
        with self._progress.phase("reading the last checkpoint"):
            snapshot = restore_last(self._run, self._state)
        if snapshot is None:
            return Position()
        self.targets = snapshot.targets
        if snapshot.bank:
            self._features.restore(snapshot.bank)
        self._data.left_out.restore(snapshot.left_out)
        return snapshot.position

    def _episode(self, position: Position) -> Position:
        episode = self._data.plan.episode(position.episode)
        stage = self._schedule.stage(position.episode)
        if stage is Stage.MAIN:
            self._prepare(episode, position.step)
            self._external = self._session.clustering.external(episode.number)
        if position.batch == 0:
            self._features.begin()
        self._step.enter(stage)
        last_repeat = self._schedule.steps_per_episode - self._data.plan.num_batches
        for number, batch in enumerate(self._batches(position), start=position.batch):
            if stage is Stage.MAIN and self._is_refresh_due(position.step):
                self._make_targets(episode, position.step)
            losses, norm = self._train_on(batch, Kept(position.step, episode, number >= last_repeat), stage)
            whole = number + 1 == self._schedule.steps_per_episode
            position = Position(
                step=position.step + 1,
                episode=episode.number + whole,
                batch=0 if whole else number + 1,
                seconds=time.monotonic() - self._started,
            )
            self._after_step(position, stage, losses, norm)
            if self._ends_at(position):
                break
        return position

    def _prepare(self, episode: Episode, step: int) -> None:
        """Makes the targets of an episode of the main stage, unless they came from a checkpoint, or are made by
        steps."""
        if self._features.refresh_steps is not None:
            return
        if self.targets is None or self.targets.number != self._features.episode_of(episode.number):
            self._make_targets(episode, step)

    def _is_refresh_due(self, step: int) -> bool:
        every = self._features.refresh_steps
        return every is not None and (self.targets is None or step % every == 0)

    def _make_targets(self, episode: Episode, step: int) -> None:
        started = time.monotonic()
        shard = self._features.shard(episode)
        seconds = time.monotonic() - started
        number = self._features.episode_of(episode.number)
        draw = None if self._features.refresh_steps is None else step
        with self._progress.phase(f"clustering the features of episode {number}"):
            self.targets, measured = self._session.clustering.targets(number, shard, self.targets, draw)
        self._log.write("episode", episode=episode.number, step=step, **measured, seconds_extract=seconds)

    def _train_on(self, batch: Batch, kept: Kept, stage: Stage) -> tuple[StepLosses, torch.Tensor]:
        images, tokens = self._data.pipeline(batch)
        positions = batch.positions.to(images.device)
        external = self._external[positions] if self._external is not None else None
        targets = self.targets if stage is Stage.MAIN else None
        rows = Rows(positions, external, self._classes_of(batch, kept.episode, images.device))
        losses, norm = self._step(kept.step, images, tokens, rows, targets)
        if losses.h_image is not None and losses.h_text is not None:
            self._features.keep(losses.h_image, losses.h_text, positions, kept)
        if kept.last_repeat and losses.h_image is not None:
            self._features.leave_out(torch.tensor([pair.position for pair in batch.left_out], dtype=torch.int64))
        return losses, norm

    def _classes_of(self, batch: Batch, episode: Episode, device: torch.device) -> torch.Tensor | None:
        if self._session.classes is None:
            return None
        return torch.from_numpy(self._session.classes.labels[episode.indices[batch.positions.numpy()]]).to(device)

    def _batches(self, position: Position) -> Iterator[Batch]:
        """The episode's batches from `position` on, up to the last step of the run."""
        requests = training_requests(self._data, self._schedule, position)
        return self._waiting.measured(self._data.stream(requests))

    def _is_extracted(self, episode: int) -> bool:
        if not self._features.reads_pairs or self._schedule.stage(episode) is not Stage.MAIN:
            return False
        return self.targets is None or self.targets.number != self._features.episode_of(episode)

    def _ends_at(self, position: Position) -> bool:
        """Whether no step comes after `position`: it is the last one, or validation's patience has ended."""
        patience = self._config.validation.patience
        out_of_patience = patience is not None and self.best is not None and self.best.misses >= patience
        return position.step >= self._schedule.num_steps or out_of_patience

    def _after_step(self, position: Position, stage: Stage, losses: StepLosses, norm: torch.Tensor) -> None:
        """What follows each step; the order matters, see below. All ranks take the same branches."""
        every, last_step = self._config.train, position.step == self._schedule.num_steps
        # The ranks agree first: the code below runs collectives, and a rank that saw a signal, or that it is time
        # to save, between two of them would enter one that the others don't.
        due = self._interruption.agree(self._is_time_to_save)
        self._progress.step(position.step)
        # Metrics come before the checkpoint: a resumed run drops the lines after its checkpoint's step, and would
        # never write those of that very step again.
        if position.step % every.log_every_steps == 0 or last_step:
            self._log_step(position, stage, losses, norm)
        # So does validation: a resumed run reads from the metrics which step was best, and how much patience is
        # left. It may end the run, so `ends` is computed after it.
        if position.step % self._config.validation.every_steps == 0 or last_step:
            self._validate(position, stage)
        ends = self._ends_at(position)
        if position.step % every.checkpoint_every_steps == 0 or due or ends or self._interruption.asked:
            self._save(position)
        # The interruption comes last, so that nothing is lost; after the last step the run is finished first.
        if not ends:
            self._interruption.raise_if_asked(f"saved step {position.step}: go on with --resume")

    def _log_step(self, position: Position, stage: Stage, losses: StepLosses, norm: torch.Tensor) -> None:
        self._share_left_out()
        self._data.left_out.check()
        values, waited = loss_values(losses), self._waiting.mean_s()
        self._log.write(
            "step",
            **progress_values(position, stage, self._data.plan, self._schedule),
            **values,
            **optimizer_values(self._session.optimizer, self._module, self._heads, norm),
            seconds=position.seconds,
            pairs_per_s=self._progress.pairs_per_second,
            data_wait_s=waited,
        )
        self._progress.show(str(stage), values["loss"] or 0.0, waited)

    def _validate(self, position: Position, stage: Stage) -> None:
        started = time.monotonic()
        if self._session.validation is None:
            return
        with self._progress.phase("validating"):
            scores = self._session.validation.measure(self._module)
        self._step.enter(stage)
        metric = self._config.validation.metric
        self.best = Best.after(self.best, position.step, scores[metric])
        measured = {"step": position.step, "metric": metric, "value": scores[metric], **scores}
        # The weights are saved before the line that calls them the best: a run killed in between has no such line.
        if self.best.step == position.step:
            collectives.on_first(lambda: save_best(self._run, measured, self._module, self._heads, self.targets))
            self._keep_best(self.best, self._saved_best)
        seconds = time.monotonic() - started
        self._log.write("validation", **measured, seconds=seconds)
        self._progress.validated(metric, scores[metric], self.best.value)

    def _share_left_out(self) -> None:
        if self._data.left_out.share():
            self._list_left_out()

    def _list_left_out(self) -> None:
        left_out = self._data.left_out.listed
        collectives.on_first(lambda: write_left_out(left_out, self._run / LEFT_OUT_FILE))

    @property
    def _is_time_to_save(self) -> bool:
        minutes = self._config.train.checkpoint_every_minutes
        return 0 < minutes * 60 <= time.monotonic() - self._saved_at

    def _save(self, position: Position) -> None:
        self._share_left_out()
        bank, left_out = self._features.tensors(), self._data.left_out.found
        snapshot = Snapshot(position, self.targets, bank, random_states(), left_out)
        keep = self._config.train.keep_checkpoints
        with self._progress.phase(f"saving step {position.step}"):
            collectives.on_first(lambda: save_checkpoint(self._run, snapshot, self._state, keep))
        self._saved_at, self._saved_best = time.monotonic(), self.best
        self._keep_best(self.best)

    def _keep_best(self, *measurements: Best | None) -> None:
        steps = {best.step for best in measurements if best is not None}
        collectives.on_first(lambda: keep_best(self._run, steps))

"""Trains a run, from its configuration to its finished folder.

The folder holds config.json, metrics.jsonl, checkpoints/, and at the end model.safetensors, heads.safetensors,
prototypes.safetensors and open_clip_config.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from protoclip.config.schema import RunConfig
from protoclip.distributed import collectives
from protoclip.distributed.interruption import Interruption
from protoclip.encoders.interpolation import interpolate_with_start
from protoclip.encoders.token_embeddings import move_unseen_tokens
from protoclip.sources import Pairs

from .begun import Begun, as_begun, begun
from .checkpoint import load_best
from .loop import Trainer
from .progress import TrainProgress
from .resume import check_session, reopen
from .rows import check_ranks, check_rows
from .run_folder import check_run, finish_run, start_run
from .session import Session, build_session
from .step import ExtraLoss


def train(
    config: RunConfig,
    run: Path,
    *,
    resume: bool = False,
    quiet: bool = False,
    pairs: Pairs | None = None,
    extra_losses: Mapping[str, ExtraLoss] | None = None,
) -> Path:
    """Trains as `config` says and fills the folder `run`.

    Args:
        resume: continue from the last checkpoint in `run`; start from the beginning if there is none. Settings of
            `resume.MAY_CHANGE` may be others than before.
        quiet: no progress bars, and no lines in their place where there is no terminal.
        pairs: to train on instead of those of `data.path`; the same ones must be given when the run is resumed,
            or more at their end.
        extra_losses: user-defined losses by name, added to the objective; logged as `loss_<name>`. The same ones
            must be given when the run is resumed.

    Raises:
        ConfigError, DataError, ModelError: something in the configuration does not fit; the message names it.
        ProtoclipError: the loss diverged, the disk is full, or `run` holds a finished run.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was saved, or the run was finished.
    """
    with collectives.ranks(config.train.device):
        config = as_begun(config, run) if resume else config
        collectives.on_first(lambda: check_run(config, run, resume=resume))
        with TrainProgress(quiet=quiet or not collectives.is_first()) as progress:
            before = begun(run, with_teacher=config.teacher.path is not None) if resume else Begun()
            session = build_session(
                config,
                progress.reading,
                pairs,
                before,
                check=partial(check_rows, run) if resume else None,
                phase=progress.phase,
            )
            check_ranks(len(session.data.pairs))
            if resume:
                collectives.on_first(lambda: check_session(run, session, before.rows))
            collectives.on_first(lambda: start_run(run, session))
            with Interruption() as interruption:
                collectives.on_first(lambda: reopen(run, session.schedule))
                trainer = Trainer(session, run, progress, interruption, extra_losses)
                _run_and_finish(trainer, session, run, progress, resume=resume)
                interruption.agree()
                interruption.raise_if_asked(f"{run}: the run is finished all the same")
    return run


def _run_and_finish(
    trainer: Trainer, session: Session, run: Path, progress: TrainProgress, *, resume: bool
) -> None:
    try:
        trainer.run(resume=resume)
    finally:
        trainer.release()
    with progress.phase("writing the finished run"):
        collectives.on_first(lambda: _finish(session, run, trainer))


def _finish(session: Session, run: Path, trainer: Trainer) -> None:
    """Runs on the first rank only; the others may not have access to the folder."""
    model, targets = session.model, trainer.targets
    if trainer.best is not None and session.config.validation.keep == "best":
        targets = load_best(run, trainer.best.step, model.module, session.heads)
    if model.word_vectors is not None:
        move_unseen_tokens(model.module, model.word_vectors, session.data.loader.token_ids)
    interpolate_with_start(model.module, session.config.model)
    finish_run(run, session, targets)

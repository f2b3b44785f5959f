"""What a run would do: its numbers, memory and files, worked out without writing anything.

`N` pairs, `m` pairs in an episode, `B` in a global batch, `K` prototypes, `P` projection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import DataError
from protoclip.contract.picture_folders import Skipped
from protoclip.contract.pixels import PictureError, PixelSpec, decode_reduced
from protoclip.data.pictures import reason_of
from protoclip.data.reduction import CropReduction
from protoclip.runs.files import began_before_color_management, with_begun_teacher, with_stored_colors
from protoclip.sources import Pairs
from protoclip.sources.columns import num_texts

from .begun import Begun, begun
from .checkpoint import last_checkpoint
from .footprint import PlannedFile, available_bytes, memory_bytes, objections, planned_files
from .optim import Schedule
from .resume import check_session
from .rows import check_rows
from .run_folder import check_run
from .session import Session, build_session, choose_device

SAMPLE = 256
_NUM_NAMED = 5


@dataclass(frozen=True)
class Unreadable:
    """A picture of the sample that training would leave out: its row among the training pairs, and why.

    The reason names the file, where the picture is a file.
    """

    row: int
    reason: str


@dataclass(frozen=True)
class DataFacts:
    """What was read of the data.

    Attributes:
        left_out: rows and files that were passed over when it was read, by their reasons.
        first_left_out: the first of these.
        pixel_bytes: the size of all decoded pictures, estimated from the sample.
    """

    pairs: int
    texts: int
    groups: int | None
    largest_group: int | None
    left_out: dict[str, int]
    first_left_out: tuple[Skipped, ...]
    sampled: int
    unreadable: tuple[Unreadable, ...]
    pixel_bytes: int


@dataclass(frozen=True)
class StageSpan:
    """A stage of training: where it begins and how long it is."""

    stage: str
    first_step: int
    steps: int
    episodes: int


@dataclass(frozen=True)
class Preview:
    """A run before it starts.

    Attributes:
        resume_from: checkpoint that the run would resume from, None for a new run.
        episode_size: m.
        prototypes: K; with classes those of all of them.
        classes: of the pictures, for PALM; None without.
        teacher_prototypes: clusters of the teacher's features, None without a teacher.
        validations: number of validations on the held-out pairs, None without any.
        memory_bytes: by purpose; activations, which depend on model and batch, are not included.
        pictures_kept: whether decoded pictures stay in memory.
        files: large ones with their sizes.
        objections: why the run can't work on this machine; empty if it can.
    """

    run: str
    resume_from: str | None
    model: str
    parameters: int
    device: str
    precision: str
    data: DataFacts
    episode_size: int
    batch_size: int
    batches_per_episode: int
    repeats: int
    prototypes: int
    classes: int | None
    teacher_prototypes: int | None
    steps: int
    stages: tuple[StageSpan, ...]
    validations: int | None
    memory_bytes: dict[str, int]
    pictures_kept: bool
    files: tuple[PlannedFile, ...]
    objections: tuple[str, ...]


def preview_run(config: RunConfig, run: Path, *, resume: bool = False) -> Preview:
    """Reads the data, a sample of the pictures and the model, and works out what training would do.

    Raises:
        ConfigError, DataError, ModelError: as training would raise before its first step.
    """
    if resume and began_before_color_management(run):
        config = with_stored_colors(config)
    config = with_begun_teacher(config, run) if resume else config
    check_run(config, run, resume=resume)
    available = available_bytes(choose_device(config))
    before = begun(run, with_teacher=config.teacher.path is not None) if resume else Begun()
    session = build_session(
        _without_cache(config),
        lambda items, total: items,
        None,
        before,
        check=partial(check_rows, run) if resume else None,
        only_planned=True,
    )
    if resume:
        check_session(run, session, before.rows)
    data = _data_facts(session)
    classes = None if session.classes is None else len(session.classes.names)
    kept = 0 < data.pixel_bytes <= config.data.cache_mb * 2**20
    memory = memory_bytes(session, data.pixel_bytes if kept else 0)
    files = planned_files(session)
    checkpoint = last_checkpoint(run) if resume else None
    return Preview(
        run=str(run),
        resume_from=None if checkpoint is None else str(checkpoint),
        model=config.model.name,
        parameters=sum(parameter.numel() for parameter in session.model.module.parameters()),
        device=str(session.device),
        precision=config.train.precision,
        data=data,
        episode_size=session.data.plan.size,
        batch_size=session.data.plan.batch_size,
        batches_per_episode=session.data.plan.num_batches,
        repeats=config.episode.repeats,
        prototypes=session.clustering.num_prototypes if classes is None else classes * config.palm.per_class,
        classes=classes,
        teacher_prototypes=session.clustering.num_external,
        steps=session.schedule.num_steps,
        stages=tuple(stage_spans(session.schedule)),
        validations=None
        if session.data.held_out is None
        else -(-session.schedule.num_steps // config.validation.every_steps),
        memory_bytes=memory,
        pictures_kept=kept,
        files=files,
        objections=(*_unreadable(data), *objections(session.device, memory, available, files, run)),
    )


def stage_spans(schedule: Schedule) -> Iterable[StageSpan]:
    """The stages in their order, with the number of steps in each; stages without steps are left out."""
    episodes: dict[str, list[int]] = {}
    for episode in range(schedule.num_episodes):
        episodes.setdefault(str(schedule.stage(episode)), []).append(episode)
    for stage, numbers in episodes.items():
        first = numbers[0] * schedule.steps_per_episode
        end = min((numbers[-1] + 1) * schedule.steps_per_episode, schedule.num_steps)
        yield StageSpan(stage, first, end - first, len(numbers))


def _unreadable(data: DataFacts) -> tuple[str, ...]:
    if len(data.unreadable) < data.sampled:
        return ()
    first = data.unreadable[0]
    return (
        f"data.path: none of the {data.sampled} pictures that were tried can be read; the first: {first.reason}",
    )


def _without_cache(config: RunConfig) -> RunConfig:
    # With a cache `build_session` decodes every picture; here a sample is enough.
    return config.model_copy(update={"data": config.data.model_copy(update={"cache_mb": 0})})


def _data_facts(session: Session) -> DataFacts:
    spec = session.model.inputs.pixels
    reduction = CropReduction.of(spec, session.config.augmentation)
    pairs, groups = session.data.pairs, session.data.plan.groups
    rows = np.unique(np.linspace(0, len(pairs) - 1, min(SAMPLE, len(pairs))).astype(int))
    sizes, unreadable = [], []
    for row in rows.tolist():
        size = _decoded_bytes(pairs, row, spec, reduction)
        if isinstance(size, int):
            sizes.append(size)
        else:
            unreadable.append(size)
    counts = None if groups is None else np.unique(groups, return_counts=True)[1]
    return DataFacts(
        pairs=len(pairs),
        texts=num_texts(pairs.texts),
        groups=None if counts is None else len(counts),
        largest_group=None if counts is None else int(counts.max()),
        left_out=dict(Counter(skipped.reason for skipped in pairs.left_out).most_common()),
        first_left_out=pairs.left_out[:_NUM_NAMED],
        sampled=len(rows),
        unreadable=tuple(unreadable),
        pixel_bytes=int(np.mean(sizes) * len(pairs)) if sizes else 0,
    )


def _decoded_bytes(pairs: Pairs, row: int, spec: PixelSpec, reduction: CropReduction) -> int | Unreadable:
    try:
        picture = decode_reduced(pairs.read_image(row), spec, reduction).image
    except (DataError, PictureError) as error:
        return Unreadable(row, reason_of(pairs, row, error))
    return picture.width * picture.height * 3

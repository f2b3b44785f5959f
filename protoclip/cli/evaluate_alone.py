"""`protoclip evaluate` of a model that belongs to no run: an artifact, or published weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .measured_models import is_artifact

if TYPE_CHECKING:
    from rich.progress import Progress

    from protoclip.evaluation.features import MeasuredModel
    from protoclip.evaluation.scores import Evaluation
    from protoclip.evaluation.subsets import Captions
    from protoclip.sources import ReadOptions


@dataclass(frozen=True)
class Asked:
    """What to measure it on.

    Attributes:
        data: what the reader reads.
        benchmark: a folder of clip_benchmark's, in the place of `data`; None: it is none.
        group_column, class_columns, captions: of `data`; None for a benchmark, which has its own.
    """

    data: ReadOptions
    benchmark: Path | None
    group_column: str | None
    class_columns: Sequence[str]
    captions: Captions | None


def has_no_run(source: str, *, data_is_named: bool) -> bool:
    """Whether `source` is a model without a run; a name of nothing is taken for a run's, unless data is named.

    Raises:
        ConfigError: an artifact, and no data.
        ModelError: a run without weights.
    """
    from protoclip.contract.errors import ConfigError
    from protoclip.runs.files import CONFIG_FILE
    from protoclip.runs.places import find_weights

    if is_artifact(source) and not data_is_named:
        raise ConfigError(f"{source}: an artifact has no data of its own: name what to measure it on with --data")
    if is_artifact(source):
        return True
    is_run = (Path(source) / CONFIG_FILE).is_file() or find_weights(source) is not None
    return data_is_named and not is_run


def evaluate_alone(model: MeasuredModel, asked: Asked, batch_size: int | None, progress: Progress) -> Evaluation:
    """Reads the data and measures; under a launcher each rank embeds its share.

    Raises:
        DataError, ModelError: as `evaluate_model` and `read_benchmark_folder`.
    """
    from protoclip.config.schema import EvaluationConfig
    from protoclip.evaluation.benchmark_folder import evaluate_benchmark, read_benchmark_folder
    from protoclip.evaluation.unfitted import evaluate_model
    from protoclip.sources import read_pairs

    size = batch_size or EvaluationConfig().batch_size
    if asked.benchmark is not None:
        split = asked.data.split or "test"
        found = read_benchmark_folder(asked.benchmark, split, max_left_out=asked.data.max_left_out)
        task = progress.add_task("embedding pictures", total=len(found.pairs))
        return evaluate_benchmark(
            model, found, batch_size=size, on_batch=lambda count: progress.advance(task, count)
        )
    pairs = read_pairs(asked.data)
    task = progress.add_task("embedding pictures", total=len(pairs))
    return evaluate_model(
        model,
        Path(asked.data.paths[0]).stem,
        pairs,
        group_column=asked.group_column,
        class_columns=asked.class_columns,
        templates=EvaluationConfig().templates,
        captions=asked.captions or "label",
        batch_size=size,
        on_batch=lambda count: progress.advance(task, count),
    )


def check_alone(*, artifact: Path | None, shots: Sequence[int] | None) -> None:
    """Raises ConfigError for options that need a run."""
    from protoclip.contract.errors import ConfigError

    if artifact is not None:
        raise ConfigError(f"--artifact {artifact}: is for a run: name the artifact in the run's place")
    if shots:
        raise ConfigError("--shots are fitted on a run's training pairs, and the model has no run: leave it out")

"""Evaluates a run folder: its model on its own data or on other data, and its prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from protoclip.config.schema import DataConfig, RunConfig
from protoclip.contract.errors import DataError
from protoclip.data.holdout import split_pairs
from protoclip.data.rows_before import RowsAtFirst
from protoclip.data.table import load_pairs
from protoclip.distributed import collectives
from protoclip.runs.files import PROTOTYPES_FILE, load_run_config, prototype_labels
from protoclip.runs.model import load_model
from protoclip.runs.places import Weights, find_weights
from protoclip.runs.rows import rows_at_first
from protoclip.sources import Pairs, ReadOptions, read_pairs
from protoclip.sources.read import column_names

from .benchmark_folder import evaluate_benchmark, read_benchmark_folder
from .clusters import (
    adjusted_rand_index,
    contingency,
    normalized_mutual_information,
    purity,
    size_entropy,
)
from .features import CPU, MeasuredModel, TorchModel
from .kept_features import FEATURES_FOLDER, KeptFeatures
from .runner import evaluate
from .scores import EVALUATION_FILE, ClusterAgreement, Evaluation
from .subsets import Captions, split_subsets


def evaluate_run(
    run: Path,
    *,
    data: ReadOptions | None = None,
    batch_size: int | None = None,
    engine: MeasuredModel | None = None,
    device: torch.device = CPU,
    progress: Progress | None = None,
    captions: Captions | None = None,
    keep_features: bool = True,
    few_shot: Sequence[int] | None = None,
) -> Evaluation:
    """Measures a run and writes the result into its folder (`result_path`).

    Subsets are the configured unions of the split column's values, or else these values; without a split
    column there is one, the training pairs themselves. Groups that `validation.fraction` held out are one more
    subset, `validation`. Other `data` is one subset, named after its first path; its probes are fitted on the
    run's own training pairs, and it needs the run's columns.

    Args:
        run: folder that training wrote, or a checkpoint in it, as `find_weights` names them. A checkpoint's
            prototypes are not measured.
        data: what to measure instead of the run's own. The run's columns where it has them, else by their names.
        batch_size: pictures at a time; None: the run's `evaluation.batch_size`.
        engine: measured instead of the run's own model; its `source` is part of the result's name.
        device: of the run's own model, in float32; an engine has its own.
        progress: called with the progress.
        captions: which texts retrieval is among; None: the run's `evaluation.captions`.
        keep_features: embeddings of pictures are kept in the run's folder, and taken from there where the bytes
            of all pictures, the weights and the preprocessing are the same; an engine is asked anew each time.

        few_shot: numbers of training pictures of each class for probes; None: the run's `evaluation.few_shot`.

    On the ranks of a launcher each embeds its share, and the first writes.

    Raises:
        ConfigError: a subset's configuration does not fit the data.
        DataError: data that is missing, lacks a column, or changed since training.
        ModelError: the folder is no run, or has no weights yet.
    """
    weights = _weights(run)
    config = load_run_config(weights.run)
    model = TorchModel(load_model(run), device) if engine is None else engine
    train, subsets = run_subsets(config, data, rows_at_first(weights.run))
    clusters = prototype_agreement(run, train, _columns(config)) if weights.step is None else ()
    evaluation = evaluate(
        model,
        train,
        subsets,
        group_column=config.data.group_column,
        class_columns=config.evaluation.class_columns,
        templates=config.evaluation.templates,
        batch_size=batch_size or config.evaluation.batch_size,
        seed=config.train.seed,
        progress=progress,
        captions=captions or config.evaluation.captions,
        few_shot=config.evaluation.few_shot if few_shot is None else few_shot,
        kept=KeptFeatures(weights.run / FEATURES_FOLDER) if keep_features else None,
    )
    evaluation = evaluation.model_copy(update={"clusters": clusters})
    collectives.on_first(lambda: evaluation.save(result_path(run, data, engine)))
    return evaluation


def evaluate_run_on_benchmark(
    run: Path,
    folder: Path,
    split: str,
    *,
    max_left_out: float = 0.5,
    batch_size: int | None = None,
    engine: MeasuredModel | None = None,
    device: torch.device = CPU,
    progress: Progress | None = None,
) -> Evaluation:
    """Measures a run on a folder in clip_benchmark's layout and writes the result into the run's folder.

    Arguments are those of `evaluate_run`, and `read_benchmark_folder`.

    Raises:
        DataError, ConfigError: as `read_benchmark_folder`.
        ModelError: as `evaluate_run`.
    """
    weights = _weights(run)
    config = load_run_config(weights.run)
    model = TorchModel(load_model(run), device) if engine is None else engine
    data = read_benchmark_folder(folder, split, max_left_out=max_left_out)
    bars = progress if progress is not None else Progress(disable=True)
    task = bars.add_task("embedding pictures", total=len(data.pairs))
    found = evaluate_benchmark(
        model,
        data,
        batch_size=batch_size or config.evaluation.batch_size,
        seed=config.train.seed,
        on_batch=lambda count: bars.advance(task, count),
    )
    path = result_path(run, ReadOptions((str(folder),), split=split), engine)
    collectives.on_first(lambda: found.save(path))
    return found


def result_path(run: Path, data: ReadOptions | None = None, engine: MeasuredModel | None = None) -> Path:
    """`evaluation.json` in the run's folder.

    The step of a checkpoint, other data and an engine are added: `evaluation-step_400-shop-onnx_int8.json`.
    """
    weights = _weights(run)
    parts = [] if weights.step is None else [f"step_{weights.step}"]
    parts += [] if data is None else [_name_of(data)]
    parts += [engine.source] if engine else []
    return weights.run / f"{'-'.join([EVALUATION_FILE.removesuffix('.json'), *parts])}.json"


def _weights(run: Path) -> Weights:
    return find_weights(run) or Weights(run, run)


def run_subsets(
    config: RunConfig, data: ReadOptions | None = None, first: RowsAtFirst | None = None
) -> tuple[Pairs, dict[str, Pairs]]:
    """The training pairs and the subsets of a run; see `evaluate_run`.

    Args:
        first: the rows that the run began with: those that it held out are among them.
    """
    pairs = load_pairs(config.data)
    train, held_out = split_pairs(pairs, config, first)
    if data is not None:
        return train, {_name_of(data): read_pairs(_with_columns(data, config.data))}
    subsets = {config.data.train_split: train}
    if config.data.split_column is not None:
        unions = config.evaluation.cells
        subsets = split_subsets(pairs, config.data.split_column, train, config.data.train_split, unions)
    if held_out is not None and config.validation.split is None:
        subsets["validation"] = held_out
    return train, subsets


def prototype_agreement(run: Path, train: Pairs, columns: Sequence[str]) -> tuple[ClusterAgreement, ...]:
    """How the run's image and text prototypes agree with columns of the training pairs.

    Empty where the run has no prototypes, because it never reached the main stage.

    Raises:
        DataError: the data is not what it was trained on.
        ModelError: the prototypes' file is damaged.
    """
    if not (run / PROTOTYPES_FILE).is_file():
        return ()
    found = []
    for side in ("image", "text"):
        labels, num_clusters = prototype_labels(run, side)
        if len(labels) != len(train):
            raise DataError(
                f"{run / PROTOTYPES_FILE}: made from {len(labels)} training pairs, but the data now holds "
                f"{len(train)}: bring the old data back, train again, or go on with more rows by --resume"
            )
        found += [_agreement(side, name, labels, num_clusters, train.column(name)) for name in columns]
    return tuple(found)


def _agreement(
    side: str, column: str, labels: NDArray[np.int64], num_clusters: int, values: NDArray[np.generic]
) -> ClusterAgreement:
    table = contingency(labels, values.astype(str))
    return ClusterAgreement.model_validate(
        {
            "side": side,
            "column": column,
            "num_clusters": num_clusters,
            "num_items": int(table.sum()),
            "normalized_mutual_information": normalized_mutual_information(table),
            "adjusted_rand_index": adjusted_rand_index(table),
            "purity": purity(table),
            "size_entropy": size_entropy(labels, num_clusters),
        }
    )


def _columns(config: RunConfig) -> list[str]:
    group = [config.data.group_column] if config.data.group_column is not None else []
    return list(dict.fromkeys([*config.evaluation.class_columns, *group]))


def _name_of(data: ReadOptions) -> str:
    split = "" if data.split is None else f"-{data.split}"
    return Path(data.paths[0]).stem + split


def _with_columns(data: ReadOptions, config: DataConfig) -> ReadOptions:
    """The run's columns where no others are named and the data has them."""
    names = column_names(data)
    image = data.image_column or (config.image_column if config.image_column in names else None)
    texts = data.text_columns or (config.text_columns if set(config.text_columns) <= set(names) else None)
    return replace(data, image_column=image, text_columns=texts)

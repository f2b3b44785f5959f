"""Traps of ProtoCLIP's public reference code that no other test guards; docs/method-traps.md lists all."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file

from protoclip.config.load import build_config
from protoclip.config.schema import ClusteringConfig, RunConfig
from protoclip.data.batches import Requests
from protoclip.data.episodes import Plan, requests_for
from protoclip.data.random_numbers import generator
from protoclip.prototypes import teacher
from protoclip.prototypes.clustering import cluster
from protoclip.prototypes.features import Shard
from protoclip.prototypes.losses import prototype_loss
from protoclip.prototypes.targets import Clusters, EpisodeTargets, labels_by_position, make_targets
from protoclip.runs.metrics import read_metrics
from protoclip.training import loop, train
from protoclip.training.optim import Stage
from protoclip.training.session import Session, build_session
from protoclip.training.step import TrainStep
from protoclip.training.towers import Towers


def run_of(config: RunConfig, run: Path) -> Path:
    return train.train(config, run, quiet=True)


def session_of(values: dict[str, Any]) -> Session:
    return build_session(build_config(values, "test"), lambda items, _: items)


def test_prototypes_are_always_those_of_the_episode_that_is_trained_on(
    shapes_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 1: features of one episode met labels of another."""
    seen: list[tuple[int, int | None]] = []
    call = TrainStep.__call__

    def record(self: TrainStep, step: int, images: Any, tokens: Any, rows: Any, targets: Any) -> Any:
        seen.append((step, None if targets is None else targets.number))
        return call(self, step, images, tokens, rows, targets)

    monkeypatch.setattr(TrainStep, "__call__", record)
    run_of(build_config(shapes_config, "test"), tmp_path / "run")
    assert seen == [(step, step // 6 if 6 <= step < 18 else None) for step in range(24)]


def test_without_prototypes_the_main_stage_does_not_train(shapes_config: dict[str, Any]) -> None:
    """Trap 1: zero centroids stood in for those that were missing."""
    session = session_of(shapes_config)
    step = TrainStep(session.model.module, session.heads, session.optimizer, session.schedule, session.config)
    step.enter(Stage.MAIN)
    images, tokens = torch.zeros(4, 3, 16, 16), torch.zeros(4, 8, dtype=torch.int64)
    with pytest.raises(AssertionError, match="needs targets"):
        step.backward(images, tokens, loop.Rows(torch.arange(4), None), None)


def test_random_numbers_drawn_elsewhere_change_nothing(
    shapes_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 2: a plot on one rank moved NumPy's global state, and with it the draw of the next episode."""
    config = build_config(shapes_config, "test")
    quiet = run_of(config, tmp_path / "quiet")
    log_step = loop.Trainer._log_step

    def draw_and_log(*arguments: Any) -> None:
        np.random.random(3), torch.rand(3), random.random()  # noqa: NPY002
        log_step(*arguments)

    monkeypatch.setattr(loop.Trainer, "_log_step", draw_and_log)
    disturbed = run_of(config, tmp_path / "disturbed")
    ours, theirs = (load_file(run / "model.safetensors") for run in (disturbed, quiet))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_pair_that_stands_twice_in_an_episode_has_a_label_at_each_place() -> None:
    """Trap 2: labels kept by pair, where two permutations meet, are those of the later visit."""
    plan = Plan(num_pairs=10, size=8, batch_size=4, seed=0)
    episode = next(found for found in map(plan.episode, range(1, 20)) if len(set(found.indices.tolist())) < 8)
    values, counts = np.unique(episode.indices, return_counts=True)
    places = np.flatnonzero(episode.indices == values[counts.argmax()])
    assert len(places) == 2
    requests = requests_for(episode, places, 0, 1)
    assert requests.indices[0] == requests.indices[1]
    assert requests.visits[0] != requests.visits[1]
    features = torch.nn.functional.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    clusters = Clusters(features.clone(), torch.arange(8))
    shard = Shard(features, features, torch.arange(8))
    targets = make_targets(1, shard, (clusters, clusters), None, back_translation=True)
    labels = labels_by_position(targets, torch.from_numpy(requests.positions), None)
    assert labels.image.tolist() == labels.text.tolist() == places.tolist()


def test_a_run_leaves_its_own_files_and_other_peoples_alone(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    """Traps 3 and 10: a cache folder was deleted whole; names carried the time at which a process began."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    run_of(build_config(shapes_config, "test"), run)
    assert (run / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints",
        "config.json",
        "heads.safetensors",
        "metrics.jsonl",
        "model.safetensors",
        "notes.txt",
        "open_clip_config.json",
        "plan.json",
        "prototypes.safetensors",
        "rows.json",
    ]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000024"]
    assert {path.suffix for path in (run / "checkpoints").rglob("*.*")} == {".safetensors", ".json"}


def test_a_resumed_run_goes_on_with_its_random_numbers(
    tiny_model: str, shapes_config: dict[str, Any], tmp_path: Path
) -> None:
    """Trap 10: checkpoints held no random state. Dropped patches are drawn from torch's global one."""
    import open_clip

    from protoclip.encoders.registry import model_config

    architecture = model_config(tiny_model)
    architecture["vision_cfg"]["patch_dropout"] = 0.5
    (tmp_path / "tiny-dropping.json").write_text(json.dumps(architecture))
    open_clip.add_model_config(tmp_path / "tiny-dropping.json")
    shapes_config["model"]["name"] = "tiny-dropping"
    shapes_config["train"] |= {"steps": 4, "checkpoint_every_steps": 2}
    shapes_config["episode"]["lit_episodes"] = 0
    config = build_config(shapes_config, "test")
    whole, torn = (run_of(config, tmp_path / name) for name in ("whole", "torn"))
    shutil.rmtree(torn / "checkpoints" / "step_00000004")
    (torn / "model.safetensors").unlink()
    train.train(config, torn, resume=True, quiet=True)
    ours, theirs = (load_file(run / "model.safetensors") for run in (torn, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_towers_run_in_the_precision_that_was_asked_for(precision: str) -> None:
    """Trap 6: autocast was on, whatever was asked for."""

    class Recorder(torch.nn.Module):
        def encode_image(self, images: torch.Tensor) -> torch.Tensor:
            return images @ torch.eye(4)

        encode_text = encode_image

    towers = Towers(Recorder(), precision)
    exact = torch.full((2, 4), 1 + 2**-12)
    image, text = towers(exact, exact)
    assert image.dtype == text.dtype == torch.float32
    assert torch.equal(image, exact) == torch.equal(text, exact) == (precision == "fp32")


@pytest.fixture
def captions(tmp_path: Path, shapes_config: dict[str, Any], shapes_file: Path) -> dict[str, Any]:
    """The shapes with captions of other scripts, and longer ones than the context of 8."""
    rows = parquet.read_table(shapes_file).to_pylist()
    texts = ["中文", "красный круг", "a very long caption of many more words than fit", "🟥"]
    for number, row in enumerate(rows):
        row["texts"] = [texts[number % 4]]
    path = tmp_path / "captions.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return {**shapes_config, "data": {"path": [str(path)], "text_columns": ["texts"]}}


def test_captions_of_other_scripts_and_of_any_length_reach_the_tower(captions: dict[str, Any]) -> None:
    """Trap 7: all but ASCII was thrown away, and truncation took the token that the text is pooled at."""
    loader = session_of(captions).data.loader
    indices = np.arange(4)
    tokens = loader.load(Requests(indices, indices, np.zeros(4, dtype=np.int64))).tokens
    start, end = 49406, 49407
    assert tokens[:, 0].tolist() == [start] * 4
    assert ((tokens == end).sum(dim=1) == 1).all()
    words = [row[1 : int((row == end).nonzero())].tolist() for row in tokens]
    assert all(words)
    assert len({tuple(own) for own in words}) == 4
    # The tower pools where the largest id stands.
    assert tokens[2].argmax() == 7


def test_a_teacher_is_read_and_clustered_once(
    shapes_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 8: it was read and clustered again for every episode, although it never changes."""
    path = tmp_path / "teacher.npy"
    np.save(path, generator(0, "teacher of a test").normal(size=(72, 3)))
    counts = {"cluster": 0, "_read_npy": 0}

    def counted(name: str, work: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            counts[name] += 1
            return work(*arguments, **named)

        return call

    for name in counts:
        monkeypatch.setattr(teacher, name, counted(name, getattr(teacher, name)))
    values = {**shapes_config, "teacher": {"path": str(path), "num_prototypes": 4}}
    run = run_of(build_config(values, "test"), tmp_path / "run")
    assert len([line for line in read_metrics(run) if line["kind"] == "episode"]) == 2
    assert counts == {"cluster": 1, "_read_npy": 1}


@pytest.mark.parametrize("backend", ["faiss", "lloyd"])
def test_fewer_distinct_points_than_clusters(backend: Any) -> None:
    """Trap 9: the guard for it looked at the wrong axis. What is empty takes no part, on either side."""
    points = torch.eye(4)[torch.arange(48) % 3]
    config = ClusteringConfig(num_iterations=5, num_restarts=1, backend=backend)
    found = cluster(points, 6, config, seed=0)
    assert len(found.clusters.labels.unique()) <= 3
    targets: EpisodeTargets = make_targets(
        0, Shard(points, points, torch.arange(48)), (found.clusters, found.clusters), None, back_translation=True
    )
    used = torch.bincount(found.clusters.labels, minlength=6) > 0
    assert torch.equal(targets.image_from_text.valid, used)
    features = points.clone().requires_grad_()
    loss = prototype_loss(features, found.clusters.labels, targets.image_from_text, torch.tensor(14.0), 0.01)
    loss.backward()
    assert torch.isfinite(loss)
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_a_pass_is_a_pass_and_an_episode_an_episode(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    """Trap 11: what the flags called an epoch was an episode."""
    from typer.main import get_command

    from protoclip.cli import app

    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for sub in [command, *getattr(command, "commands", {}).values()]:
            said = [sub.help or "", *(f"{p.name} {' '.join(p.opts)} {getattr(p, 'help', '')}" for p in sub.params)]
            assert "epoch" not in " ".join(said).lower(), name
    assert "epoch" not in str(RunConfig.model_json_schema()).lower()
    values = {**shapes_config, "train": {**shapes_config["train"], "steps": None, "passes": 1.5}}
    values |= {"episode": {"size": 36}, "data": {**shapes_config["data"], "group_column": None}}
    run = run_of(build_config(values, "test"), tmp_path / "run")
    lines = [line for line in read_metrics(run) if line["kind"] == "step"]
    # 72 pairs are 6 steps of 12; an episode of 36 is 3.
    assert [line["pass"] for line in lines] == pytest.approx([step / 6 for step in range(1, 10)], rel=1e-5)
    assert [line["episode"] for line in lines] == [step // 3 for step in range(9)]
    assert not any("epoch" in name for line in lines for name in line)

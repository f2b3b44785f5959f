"""Worker processes change nothing but the time that a step waits."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_training import TINY, same_weights, with_changes

from protoclip.contract.errors import ProtoclipError
from protoclip.data import training_set
from protoclip.data.feed import Feed
from protoclip.distributed import cores
from protoclip.runs.metrics import read_metrics
from protoclip.training.train import train


@pytest.fixture(scope="session")
def dropping_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that draws from torch's global generator in training."""
    import open_clip

    path = tmp_path_factory.mktemp("architectures") / "tiny-dropping.json"
    path.write_text(json.dumps(TINY | {"vision_cfg": TINY["vision_cfg"] | {"patch_dropout": 0.5}}))
    open_clip.add_model_config(path)
    return "tiny-dropping"


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch) -> list[Feed]:
    """Every feed that is made from here on."""
    made: list[Feed] = []

    def make(*arguments: Any) -> Feed:
        made.append(Feed(*arguments))
        return made[-1]

    monkeypatch.setattr(training_set, "Feed", make)
    return made


def test_random_layers_draw_the_same_with_any_number_of_workers(
    shapes_config: dict[str, Any], dropping_model: str, tmp_path: Path
) -> None:
    shapes_config["model"]["name"] = dropping_model
    runs = []
    for count in (0, 1, 2):
        config = with_changes(
            shapes_config, train={"num_workers": count}, episode={"repeats": 2, "lit_episodes": 0}
        )
        runs.append(train(config, tmp_path / str(count), quiet=True))
    assert same_weights(runs[0], runs[1])
    assert same_weights(runs[0], runs[2])
    kept = with_changes(shapes_config, model={"name": "tiny-trainable"}, episode={"repeats": 2, "lit_episodes": 0})
    assert not same_weights(runs[0], train(kept, tmp_path / "kept", quiet=True))


@pytest.mark.parametrize(("source", "step"), [("extract", 0), ("extract", 9), ("stream", 12)])
def test_all_that_a_run_takes_was_expected(
    shapes_config: dict[str, Any], tmp_path: Path, feeds: list[Feed], source: str, step: int
) -> None:
    """From the beginning, and resumed inside an episode or between two: each batch was ready or on its way."""
    config = with_changes(
        shapes_config,
        prototypes={"source": source},
        validation={"fraction": 0.2, "every_steps": 7},
        data={"group_column": None},
        train={"checkpoint_every_steps": 3, "keep_checkpoints": 99, "num_workers": 1},
        episode={"repeats": 2, "lit_episodes": 0},
    )
    run = train(config, tmp_path / "run", quiet=True)
    if step:
        for checkpoint in (run / "checkpoints").glob("step_*"):
            if int(checkpoint.name.removeprefix("step_")) > step:
                shutil.rmtree(checkpoint)
        (run / "model.safetensors").unlink()
        train(config, run, quiet=True, resume=True)
    assert [feed.num_unexpected for feed in feeds] == [0] * len(feeds)
    assert not multiprocessing.active_children()


def test_a_run_that_fails_ends_its_workers(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    config = with_changes(
        shapes_config, optim={"learning_rate": 1e30, "warmup_steps": 0}, train={"num_workers": 2}
    )
    with pytest.raises(ProtoclipError, match="the loss is"):
        train(config, tmp_path / "run", quiet=True)
    assert not multiprocessing.active_children()


def test_the_time_that_steps_wait_for_data_is_logged(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    run = train(
        with_changes(shapes_config, train={"steps": 6}, episode={"lit_episodes": 0}), tmp_path / "run", quiet=True
    )
    lines = [line for line in read_metrics(run) if line["kind"] == "step"]
    assert all(0 < line["data_wait_s"] < line["seconds"] for line in lines)


def test_a_run_is_taken_up_with_another_number_of_workers(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    run = train(with_changes(shapes_config), tmp_path / "run", quiet=True)
    (run / "model.safetensors").unlink()
    train(with_changes(shapes_config, train={"num_workers": 1}), run, quiet=True, resume=True)
    assert (run / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("num_cores", "ranks_here", "expected"), [(1, 1, 0), (2, 1, 1), (8, 4, 1), (8, 8, 0), (8, 16, 0), (96, 2, 16)]
)
def test_workers_are_as_many_as_cores_and_ranks_allow(
    shapes_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, num_cores: int, ranks_here: int, expected: int
) -> None:
    monkeypatch.setattr(cores, "usable_cores", lambda: num_cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks_here))
    assert training_set._num_workers(with_changes(shapes_config, train={"num_workers": None})) == expected
    assert training_set._num_workers(with_changes(shapes_config, train={"num_workers": 5})) == 5


def test_a_container_that_may_use_one_core_and_a_half_has_two(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: range(64))
    for text, expected in (("150000 100000", 2), ("max 100000", 64), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(f"{text}\n")
        monkeypatch.setattr(cores, "_LIMIT", tmp_path / "cpu.max")
        assert cores.usable_cores() == expected

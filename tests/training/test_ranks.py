"""What several ranks compute is what one process computes on the joined batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_ranks import run_on_ranks
from safetensors.torch import load_file
from tiny_training import shapes_values
from torch import Tensor

from protoclip.runs.metrics import read_metrics


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    out = tmp_path_factory.mktemp("exact") / "alone.safetensors"
    run_on_ranks("exact.py", 1, str(out))
    return load_file(out)


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_losses_and_gradients_are_those_of_one_process(
    num_ranks: int, alone: dict[str, Tensor], tmp_path: Path
) -> None:
    run_on_ranks("exact.py", num_ranks, str(tmp_path / "several.safetensors"))
    several = load_file(tmp_path / "several.safetensors")
    assert several.keys() == alone.keys()
    for name, value in alone.items():
        torch.testing.assert_close(
            several[name], value, rtol=0, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_pairs_that_are_left_out_leave_the_losses_of_the_others(num_ranks: int, tmp_path: Path) -> None:
    """On one rank they are those of a batch without these pairs; of four ranks the first has no pair at all."""
    broken = [*map(str, range(6)), "9", "23"]
    results = []
    for count in (1, num_ranks):
        run_on_ranks("exact.py", count, str(tmp_path / f"{count}.safetensors"), *broken)
        results.append(load_file(tmp_path / f"{count}.safetensors"))
    alone, several = results
    assert several.keys() == alone.keys()
    for name, value in alone.items():
        torch.testing.assert_close(
            several[name], value, rtol=0, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_accumulation_gives_the_gradients_of_the_whole_batch(alone: dict[str, Tensor]) -> None:
    whole = {name: value for name, value in alone.items() if "accumulation=1" in name}
    assert len(whole) > 100
    for name, value in whole.items():
        in_parts = alone[name.replace("accumulation=1", "accumulation=3")]
        torch.testing.assert_close(in_parts, value, rtol=0, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}")


def write_shapes(values: dict[str, Any], folder: Path, backend: str = "lloyd") -> tuple[str, str]:
    """Files of a configuration and of its architecture."""
    from protoclip.encoders.registry import model_config

    values["clustering"]["backend"] = backend
    (folder / "config.json").write_text(json.dumps(values))
    name = values["model"]["name"]
    architecture = folder / f"{name}.json"
    architecture.write_text(json.dumps(model_config(name)))
    return str(folder / "config.json"), str(architecture)


@pytest.fixture
def shapes(shapes_config: dict[str, Any], tmp_path: Path) -> tuple[str, str]:
    """Files of a configuration of 24 steps on towers without BatchNorm, and of its architecture."""
    return write_shapes(shapes_config, tmp_path)


@pytest.fixture(scope="module")
def on_two_ranks(
    tiny_model: str, shapes_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[str, str], Path]:
    """Files of such a configuration, with a checkpoint every 9 steps, and its run; nobody may write into that."""
    folder = tmp_path_factory.mktemp("two_ranks")
    values = shapes_values(tiny_model, shapes_file)
    values["train"]["checkpoint_every_steps"] = 9
    files = write_shapes(values, folder)
    run_on_ranks("train_shapes.py", 2, *files, str(folder / "run"))
    return files, folder / "run"


def test_two_ranks_train_what_one_does(on_two_ranks: tuple[tuple[str, str], Path], tmp_path: Path) -> None:
    """From data to prototypes. Rounding differs: Adam's first steps make much of gradients that are all but 0."""
    files, two = on_two_ranks
    one = tmp_path / "run1"
    run_on_ranks("train_shapes.py", 1, *files, str(one))
    assert [line["kind"] for line in read_metrics(two)] == [line["kind"] for line in read_metrics(one)]
    for ours, theirs in zip(read_metrics(two), read_metrics(one), strict=True):
        names = [
            n for n, value in ours.items() if n.startswith(("loss", "inertia", "scale")) and value is not None
        ]
        assert {n: ours[n] for n in names} == pytest.approx({n: theirs[n] for n in names}, rel=2e-3), ours["step"]
    ours, theirs = (load_file(run / "prototypes.safetensors") for run in (two, one))
    assert torch.equal(ours["labels_image"], theirs["labels_image"])
    torch.testing.assert_close(ours["centroids_text"], theirs["centroids_text"], atol=2e-3, rtol=0)


def test_two_ranks_resume_bit_for_bit(on_two_ranks: tuple[tuple[str, str], Path], tmp_path: Path) -> None:
    files, whole = on_two_ranks
    run = tmp_path / "resumed"
    shutil.copytree(whole, run)
    for checkpoint in sorted((run / "checkpoints").iterdir())[1:]:
        shutil.rmtree(checkpoint)
    (run / "model.safetensors").unlink()
    run_on_ranks("train_shapes.py", 2, *files, str(run))
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (run, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


RENEWED = {"source": "stream", "refresh_steps": 4, "momentum": 0.5}


@pytest.mark.parametrize(
    ("prototypes", "before", "after"),
    [
        ({"source": "stream"}, 2, 1),
        ({"source": "extract"}, 1, 2),
        ({"source": "stream"}, 1, 4),
        (RENEWED, 2, 1),
    ],
)
def test_a_run_goes_on_with_more_or_fewer_ranks(
    shapes: tuple[str, str], tmp_path: Path, prototypes: dict[str, Any], before: int, after: int
) -> None:
    """The same pairs in the same order, and the same clusters of a teacher; weights within 5e-3 of the largest,
    the rounding of fifteen of Adam's steps. Resumed inside an episode, whose targets have the old ids."""
    values = json.loads(Path(shapes[0]).read_text())
    np.save(tmp_path / "teacher.npy", np.random.default_rng(0).normal(size=(72, 3)))
    values["teacher"] = {"path": str(tmp_path / "teacher.npy"), "num_prototypes": 5}
    values["prototypes"] = prototypes
    values["train"] |= {"checkpoint_every_steps": 9, "keep_checkpoints": 9}
    Path(shapes[0]).write_text(json.dumps(values))
    run = tmp_path / "run"
    run_on_ranks("train_shapes.py", before, *shapes, str(run))
    whole, losses = load_file(run / "model.safetensors"), main_losses(run)
    first, *others = sorted((run / "checkpoints").iterdir())
    assert json.loads((first / "position.json").read_text())["batch"] == 3
    for checkpoint in others:
        shutil.rmtree(checkpoint)
    (run / "model.safetensors").unlink()
    run_on_ranks("train_shapes.py", after, *shapes, str(run))
    assert main_losses(run) == pytest.approx(losses, rel=2e-3)
    found = load_file(run / "model.safetensors")
    for name, value in whole.items():
        assert (found[name] - value).abs().max() <= 5e-3 * value.abs().max().clamp(min=1e-2), name
    steps = [line["step"] for line in read_metrics(run) if line["kind"] == "step"]
    assert steps == list(range(1, 25))


LOSSES = ("loss", "loss_clip", "loss_proto", "loss_ext")


def main_losses(run: Path, first: int = 0, last: int = 24) -> list[float]:
    """All losses of the main stage's steps from `first` to `last`, one step after the other."""
    lines = [line for line in read_metrics(run) if line["kind"] == "step" and line["stage"] == "main"]
    found = [line[name] for line in lines for name in LOSSES if first <= line["step"] <= last]
    assert found
    assert None not in found
    return found


@pytest.fixture(scope="module")
def with_teacher(
    tiny_model: str, shapes_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[str, str], Path]:
    """Files of a configuration with a teacher, and its run on one rank by faiss; nobody may write into that."""
    folder = tmp_path_factory.mktemp("with_teacher")
    np.save(folder / "teacher.npy", np.random.default_rng(0).normal(size=(72, 3)))
    values = shapes_values(tiny_model, shapes_file)
    values["teacher"] = {"path": str(folder / "teacher.npy"), "num_prototypes": 5}
    values["episode"]["lit_episodes"] = 0
    values["train"] |= {"checkpoint_every_steps": 9, "keep_checkpoints": 9, "steps": 14}
    files = write_shapes(values, folder, backend="auto")
    run_on_ranks("train_shapes.py", 1, *files, str(folder / "run"))
    return files, folder / "run"


@pytest.mark.parametrize(("num_ranks", "num_threads"), [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2)])
def test_a_teacher_run_goes_on_inside_an_episode_without_a_jump(
    with_teacher: tuple[tuple[str, str], Path], tmp_path: Path, num_ranks: int, num_threads: int
) -> None:
    """faiss made the clusters, of the teacher and of the episode, and several ranks would make others."""
    files, whole = with_teacher
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    first, *others = sorted((run / "checkpoints").iterdir())
    assert json.loads((first / "position.json").read_text()) | {"seconds": 0} == {
        "step": 9,
        "episode": 1,
        "batch": 3,
        "seconds": 0,
    }
    for checkpoint in others:
        shutil.rmtree(checkpoint)
    (run / "model.safetensors").unlink()
    run_on_ranks("train_shapes.py", num_ranks, *files, str(run), str(num_threads))
    name = "teacher_labels.safetensors"
    assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert main_losses(run, 10, 12) == pytest.approx(main_losses(whole, 10, 12), rel=1e-4)
    # The next episode may have other clusters of its own: the teacher's loss depends on the weights alone.
    after, before = (main_losses(folder, 13)[3::4] for folder in (run, whole))
    assert after == pytest.approx(before, rel=0.05)


def test_a_failing_rank_ends_all_with_its_message(shapes: tuple[str, str], tmp_path: Path) -> None:
    """The folder can't be used: the first rank says so, and the others don't wait for it."""
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(AssertionError, match="is a file: name a folder"):
        run_on_ranks("train_shapes.py", 2, *shapes, str(tmp_path / "taken"))


def test_a_signal_to_one_rank_between_two_steps_stops_all_after_the_next(
    shapes: tuple[str, str], tmp_path: Path
) -> None:
    """It came when the ranks had agreed to go on: one that stopped there would wait for the others for ever."""
    run_on_ranks("signalled.py", 2, *shapes, str(tmp_path / "run"), exit_code=143)
    assert [line["step"] for line in read_metrics(tmp_path / "run") if line["kind"] == "step"] == [1, 2, 3, 4]


@pytest.mark.parametrize(("source", "is_resumed"), [("extract", False), ("stream", True)])
def test_ranks_exchange_what_lies_on_their_device(
    shapes: tuple[str, str], tmp_path: Path, source: str, is_resumed: bool
) -> None:
    """NCCL sends from GPUs only: a second device stands for them, in every phase of a run."""
    np.save(tmp_path / "teacher.npy", np.random.default_rng(0).normal(size=(72, 3)))
    values = json.loads(Path(shapes[0]).read_text())
    values["prototypes"] = {"source": source}
    values["teacher"] = {"path": str(tmp_path / "teacher.npy"), "num_prototypes": 4}
    values["validation"] = {"fraction": 0.2, "every_steps": 6}
    values["data"]["group_column"] = None
    values["clustering"] |= {"num_iterations": 2, "num_restarts": 1}
    values["train"] |= {"checkpoint_every_steps": 7, "keep_checkpoints": 9}
    Path(shapes[0]).write_text(json.dumps(values))
    run = tmp_path / "run"
    run_on_ranks("second_device_ranks.py", 2, *shapes, str(run))
    if is_resumed:
        for checkpoint in sorted((run / "checkpoints").glob("step_*"))[1:]:
            shutil.rmtree(checkpoint)
        (run / "model.safetensors").unlink()
        run_on_ranks("second_device_ranks.py", 2, *shapes, str(run))
    assert [line["step"] for line in read_metrics(run) if line["kind"] == "step"] == list(range(1, 25))


def test_ranks_without_a_common_disk_train_and_do_not_resume(shapes: tuple[str, str], tmp_path: Path) -> None:
    """The first rank alone writes, and reads what was best; a checkpoint has to be read by all."""
    values = json.loads(Path(shapes[0]).read_text())
    values["validation"] = {"fraction": 0.2, "every_steps": 6}
    values["data"]["group_column"] = None
    values["train"]["checkpoint_every_steps"] = 9
    Path(shapes[0]).write_text(json.dumps(values))
    run = tmp_path / "run"
    run_on_ranks("own_disks.py", 2, *shapes, str(run))
    assert (run / "model.safetensors").exists()
    (run / "model.safetensors").unlink()
    checkpoints = sorted((run / "checkpoints").iterdir())
    with pytest.raises(AssertionError, match="on another rank: every host must see the same folder"):
        run_on_ranks("own_disks.py", 2, *shapes, str(run))
    assert sorted((run / "checkpoints").iterdir()) == checkpoints

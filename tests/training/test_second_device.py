"""Trap 1: indices, labels and features on different devices. A run's tensors are all where its model is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from second_device import DEVICE, Elsewhere, second_device

from protoclip.config.load import build_config
from protoclip.data.random_numbers import generator
from protoclip.runs.metrics import read_metrics
from protoclip.training import session, train

MIXED: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "product": lambda here, there: here @ there,
    "sum": lambda here, there: there + here,
    "rows of a CPU tensor": lambda here, there: here[there[0].long()],
    "gathered": lambda here, there: there.gather(0, here.long()),
    "added by index": lambda here, there: torch.zeros_like(there).index_add_(0, here[0].long(), there),
    "written": lambda here, there: here.add_(there),
}


@pytest.mark.parametrize("work", MIXED.values(), ids=MIXED.keys())
def test_the_second_device_refuses_what_cuda_refuses(work: Callable[..., Any]) -> None:
    with second_device() as device, pytest.raises(RuntimeError, match="device"):
        work(torch.zeros(2, 2), torch.zeros(2, 2, device=device))


def test_the_second_device_takes_what_cuda_takes() -> None:
    with second_device() as device:
        there = torch.arange(4.0, device=device)
        assert isinstance(there, Elsewhere)
        assert there[torch.tensor([1, 2])].tolist() == [1, 2]
        assert (there * torch.tensor(2.0)).sum().item() == 12
        assert torch.zeros(4).copy_(there).tolist() == there.cpu().tolist() == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def model_with_bias(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Which the sigmoid loss needs."""
    import open_clip

    from protoclip.encoders.registry import model_config

    path = tmp_path_factory.mktemp("biased") / "tiny-biased.json"
    path.write_text(json.dumps({**model_config(tiny_model), "init_logit_bias": -3.0}))
    open_clip.add_model_config(path)
    return "tiny-biased"


@pytest.fixture
def values(shapes_config: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """All that can be switched on: a teacher, validation, every stage, augmentation."""
    np.save(tmp_path / "teacher.npy", generator(0, "teacher of a test").normal(size=(72, 3)))
    shapes_config["teacher"] = {"path": str(tmp_path / "teacher.npy"), "num_prototypes": 4}
    shapes_config["validation"] = {"fraction": 0.2, "every_steps": 6}
    shapes_config["data"]["group_column"] = None
    shapes_config["train"] |= {"checkpoint_every_steps": 7, "keep_checkpoints": 9}
    return shapes_config


def measured(line: dict[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics but for times."""
    timed = ("second", "pairs_per", "data_wait_s")
    numbers = {name: value for name, value in line.items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if not any(word in name for word in timed)}


@pytest.mark.parametrize(
    ("source", "backend", "accumulation", "alignment"),
    [("extract", "lloyd", 1, "infonce"), ("stream", "faiss", 2, "infonce"), ("stream", "lloyd", 1, "sigmoid")],
)
def test_a_run_on_another_device_is_the_run_on_the_cpu(
    values: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model_with_bias: str,
    source: str,
    backend: str,
    accumulation: int,
    alignment: str,
) -> None:
    """Through every phase, and taken up from a checkpoint in the middle. Kernels differ, and so does rounding."""
    values["model"]["name"] = model_with_bias
    values["prototypes"], values["loss"] = {"source": source}, {"alignment": alignment}
    values["clustering"]["backend"], values["train"]["accumulation"] = backend, accumulation
    config = build_config(values, "test")
    on_cpu, elsewhere = tmp_path / "on_cpu", tmp_path / "elsewhere"
    train.train(config, on_cpu, quiet=True)
    monkeypatch.setattr(session, "choose_device", lambda config: DEVICE)
    with second_device():
        train.train(config, elsewhere, quiet=True)
        for checkpoint in sorted((elsewhere / "checkpoints").glob("step_*"))[1:]:
            shutil.rmtree(checkpoint)
        (elsewhere / "model.safetensors").unlink()
        train.train(config, elsewhere, quiet=True, resume=True)
    ours, theirs = read_metrics(elsewhere), read_metrics(on_cpu)
    assert [line["kind"] for line in ours] == [line["kind"] for line in theirs]
    assert [measured(line) for line in ours] == [pytest.approx(measured(line), rel=1e-3) for line in theirs]

"""What the ranks of a machine with GPUs talk through. No GPU is touched."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from protoclip.contract.errors import ConfigError, ProtoclipError
from protoclip.distributed import collectives


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """This process is the third rank of a machine with two GPUs; the backends it would have joined by."""
    backends: list[str] = []

    def join(backend: str) -> None:
        backends.append(backend)
        raise ValueError("nobody there")

    for name, value in {"WORLD_SIZE": "3", "RANK": "2", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda place: backends.append(f"GPU {place}"))
    monkeypatch.setattr(dist, "init_process_group", join)
    return backends


def test_a_rank_without_a_gpu_of_its_own_is_told(joined: list[str]) -> None:
    message = "rank 2 of this machine has no GPU of its own: there are 2: start as many ranks, or --set"
    with pytest.raises(ConfigError, match=message), collectives.ranks("auto"):
        pass
    assert joined == []


@pytest.mark.parametrize(("device", "expected"), [("cpu", ["gloo"]), ("auto", ["GPU 1", "nccl"])])
def test_ranks_on_the_cpu_do_not_talk_through_gpus(
    joined: list[str], monkeypatch: pytest.MonkeyPatch, device: collectives.DeviceName, expected: list[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    message = "the other ranks can't be reached: nobody there"
    with pytest.raises(ProtoclipError, match=message), collectives.ranks(device):
        pass
    assert joined == expected


def test_a_rank_that_is_shown_one_gpu_takes_it(joined: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As SLURM's --gpus-per-task=1 does."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ProtoclipError, match="nobody there"), collectives.ranks("auto"):
        pass
    assert joined == ["GPU 0", "nccl"]

"""BatchNorm over all ranks is BatchNorm of the joined batch."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from run_ranks import run_on_ranks
from safetensors.torch import load_file
from torch import nn

from protoclip.contract.errors import ConfigError, ModelError
from protoclip.distributed import collectives
from protoclip.distributed.batch_norm import SyncedBatchNorm, uncounted
from protoclip.encoders.batch_norm import prepare_batch_norm, synchronise
from protoclip.runs.metrics import read_metrics

TINY_RESNET = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def test_towers_on_two_ranks_are_those_of_one_process(tmp_path: Path) -> None:
    """BatchNorm2d, BatchNorm1d without weights and timm's BatchNormAct2d with a cumulative average, in float64."""
    for num_ranks in (1, 2):
        run_on_ranks("exact_batch_norm.py", num_ranks, str(tmp_path / f"{num_ranks}.st"))
    alone, several = (load_file(tmp_path / f"{num_ranks}.st") for num_ranks in (1, 2))
    assert several.keys() == alone.keys()
    assert sum(name.startswith("statistic") for name in alone) == 9
    for name, value in alone.items():
        torch.testing.assert_close(
            several[name], value, rtol=0, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.fixture
def resnet(shapes_config: dict[str, Any], tmp_path: Path) -> tuple[str, str]:
    """Files of a configuration of 3 steps on a small ResNet of open_clip, and of its architecture."""
    shapes_config["model"]["name"] = "tiny-resnet"
    shapes_config["train"] |= {"steps": 3, "sync_batch_norm": True}
    shapes_config["episode"]["lit_episodes"] = 0
    shapes_config["clustering"]["backend"] = "lloyd"
    (tmp_path / "config.json").write_text(json.dumps(shapes_config))
    (tmp_path / "tiny-resnet.json").write_text(json.dumps(TINY_RESNET))
    return str(tmp_path / "config.json"), str(tmp_path / "tiny-resnet.json")


def test_a_resnet_on_two_ranks_trains_as_on_one(resnet: tuple[str, str], tmp_path: Path) -> None:
    """In float32, whose rounding Adam's first steps make much of; without synchronisation the loss is 13 % off."""
    for num_ranks in (1, 2):
        run_on_ranks("train_shapes.py", num_ranks, *resnet, str(tmp_path / f"run{num_ranks}"))
    one, two = tmp_path / "run1", tmp_path / "run2"
    losses = [[line["loss"] for line in read_metrics(run) if line["kind"] == "step"] for run in (one, two)]
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=2e-4)
    ours, theirs = (load_file(run / "model.safetensors") for run in (two, one))
    assert sum("running" in name for name in theirs) > 30
    for name, value in theirs.items():
        difference = (ours[name] - value).abs().float()
        assert difference.mean() <= 5e-5, name


def batch_normed() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())


def test_on_one_rank_nothing_changes() -> None:
    torch.manual_seed(0)
    plain, synced = batch_normed(), batch_normed()
    synced.load_state_dict(plain.state_dict())
    synchronise(synced)
    assert isinstance(synced[1], SyncedBatchNorm)
    pictures = torch.randn(5, 3, 4, 4)
    assert torch.equal(plain(pictures), synced(pictures))
    assert torch.equal(plain.eval()(pictures), synced.eval()(pictures))
    assert all(torch.equal(value, synced.state_dict()[name]) for name, value in plain.state_dict().items())


def test_other_kinds_are_refused_with_their_name() -> None:
    model = nn.Sequential(nn.Identity(), nn.Sequential(nn.BatchNorm3d(2)))
    with pytest.raises(ModelError, match=r"train\.sync_batch_norm: 1\.0 is a BatchNorm3d"):
        synchronise(model)


def test_several_ranks_are_told_where_it_is_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        prepare_batch_norm(batch_normed(), synchronised=False)
        assert not caplog.records
        monkeypatch.setattr(collectives, "world_size", lambda: 2)
        prepare_batch_norm(nn.Linear(2, 2), synchronised=False)
        assert not caplog.records
        prepare_batch_norm(batch_normed(), synchronised=False)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "the towers have BatchNorm, which each of the 2 ranks takes over its own rows"
    ]


@pytest.mark.parametrize("synchronised", [False, True])
def test_batches_in_parts_are_refused_with_either(shapes_config: dict[str, Any], synchronised: bool) -> None:
    """Over all ranks, statistics would still be those of a part."""
    from protoclip.config.load import build_config
    from protoclip.training.session import build_session

    shapes_config["model"]["name"] = "protoclip-mini-48"
    shapes_config["train"] |= {"accumulation": 2, "sync_batch_norm": synchronised}
    with pytest.raises(ConfigError, match=r"train\.accumulation=2: protoclip-mini-48 has BatchNorm"):
        build_session(build_config(shapes_config, "test"), lambda items, _: items)


def test_statistics_of_ranks_own_rows_survive_a_checkpoint(resnet: tuple[str, str], tmp_path: Path) -> None:
    """Stopped where an episode ends: the next thing that looks at the statistics is extraction, in eval mode."""
    values = json.loads(Path(resnet[0]).read_text())
    values["train"] |= {"steps": 13, "sync_batch_norm": False, "checkpoint_every_steps": 6}
    Path(resnet[0]).write_text(json.dumps(values))
    run = tmp_path / "run"
    run_on_ranks("train_shapes.py", 2, *resnet, str(run))
    whole = {name: load_file(run / f"{name}.safetensors") for name in ("model", "prototypes")}
    shutil.rmtree(run / "checkpoints" / "step_00000013")
    (run / "model.safetensors").unlink()
    run_on_ranks("train_shapes.py", 2, *resnet, str(run))
    for name, tensors in whole.items():
        found = load_file(run / f"{name}.safetensors")
        assert [key for key, value in tensors.items() if not torch.equal(found[key], value)] == []


def test_rows_that_stand_for_none_are_in_no_statistics() -> None:
    """Of plain BatchNorm; of the synchronised one see `test_ranks`. A frozen layer stays frozen."""
    plain = batch_normed()
    plain.append(nn.BatchNorm2d(4).eval())
    before = {name: buffer.clone() for name, buffer in plain.named_buffers()}
    with uncounted(plain):
        plain(torch.zeros(1, 3, 4, 4))
    assert all(torch.equal(buffer, before[name]) for name, buffer in plain.named_buffers())
    assert [part.training for part in plain] == [True, True, True, False]
    plain(torch.randn(5, 3, 4, 4))
    assert not torch.equal(plain[1].running_mean, before["1.running_mean"])

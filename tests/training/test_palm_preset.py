"""The preset of PALM's own recipe: ResNet-34 at 32 pixels and SGD, in the ordinary trainer, on class folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_training import draw_picture
from torch import nn

from protoclip.config.schema import OptimConfig
from protoclip.prototypes.heads import Heads
from protoclip.runs.metrics import read_metrics
from protoclip.runs.model import load_model
from protoclip.runs.palm import load_mixture
from protoclip.training.checkpoint import TrainState, _optimizer_tensors, _restore_optimizer
from protoclip.training.defaults import config_from_data
from protoclip.training.optim import make_optimizer
from protoclip.training.train import train


def test_the_preset_trains_on_class_folders(tmp_path: Path) -> None:
    for colour in ("red", "blue"):
        (tmp_path / "photos" / colour).mkdir(parents=True)
        for seed in range(4):
            (tmp_path / "photos" / colour / f"{seed}.png").write_bytes(draw_picture(colour, "disc", seed))
    small = ["train.batch_size=4", "train.steps=2", "optim.warmup_steps=0", "train.num_workers=0"]
    config, choices = config_from_data(
        tmp_path / "photos", [*small, "train.device=cpu", "train.keep_checkpoints=1"], preset="palm-cifar"
    )
    origins = {choice.setting: choice.reason for choice in choices}
    assert origins["optim.kind"] == origins["model.head.hidden_dim"] == "--preset palm-cifar"
    assert config.is_palm
    run = tmp_path / "run"
    train(config, run, quiet=True)
    steps = [entry for entry in read_metrics(run) if "loss_mixture" in entry]
    # Half of the cosine from 0.5 to a thousandth of it.
    assert steps[-1]["lr_image"] == pytest.approx(0.5 * (0.001 + 0.999 / 2))
    clip = load_model(run)
    assert clip.mean == pytest.approx((0.5071, 0.4867, 0.4408))
    trunk = clip.module.visual.trunk
    assert trunk.layer4[2].bn2.bias.abs().max() > 0, "it begins at 0"
    with torch.inference_mode():
        features = trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(torch.zeros(1, 3, 32, 32)))))
        assert trunk.layer1(features).shape == (1, 64, 32, 32)
    classes, mixture = load_mixture(run, "nearest")
    assert classes == ("blue", "red")
    assert mixture.dim == 512
    assert mixture.mixture.prototypes.shape == (12, 128)


def test_sgd_is_that_of_its_formula_and_resumes() -> None:
    """Sutskever et al. 2013 as torch writes it: v ← μv + g, p ← p − lr·(g + μv), with g = gradient + decay·p."""
    module = nn.Module()
    module.visual = nn.Linear(2, 1, bias=False)
    config = OptimConfig(kind="sgd", learning_rate=0.1, momentum=0.5, weight_decay=0.2)
    heads, weight = Heads(2, 2, 2), module.visual.weight
    expected, velocity = weight.detach().clone(), torch.zeros(1, 2)
    optimizer = make_optimizer(module, heads, config)
    for step in range(3):
        gradient = torch.tensor([[1.0, float(step)]])
        decayed = gradient + 0.2 * expected
        velocity = 0.5 * velocity + decayed
        expected = expected - 0.1 * (decayed + 0.5 * velocity)
        weight.grad = gradient
        optimizer.step()
        torch.testing.assert_close(weight.detach(), expected)
        kept = _optimizer_tensors(TrainState(module, heads, optimizer))
        assert list(kept) == ["model.visual.weight:momentum_buffer"]
        optimizer = make_optimizer(module, heads, config)
        _restore_optimizer(TrainState(module, heads, optimizer), kept)

"""One optimiser step against gradients that are computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from protoclip.config.load import build_config
from protoclip.data.batches import Requests
from protoclip.prototypes.objective import Rows
from protoclip.training.optim import Stage
from protoclip.training.session import build_session
from protoclip.training.step import TrainStep


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 2e-2)])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_gradients_are_those_of_the_loss_clipped_once(
    shapes_config: dict[str, Any], precision: str, tolerance: float, accumulation: int
) -> None:
    """Trap 6: gradients were unscaled twice, so that they were clipped by a norm that was not theirs."""
    shapes_config["train"] |= {"precision": precision, "accumulation": accumulation}
    shapes_config["optim"]["clip_norm"] = 0.01
    session = build_session(build_config(shapes_config, "test"), lambda items, _: items)
    module = session.model.module
    rows = np.arange(0, 72, 6)
    images, tokens = session.data.pipeline(
        session.data.loader.load(Requests(rows, rows, np.zeros(12, dtype=np.int64)))
    )
    step = TrainStep(module, session.heads, session.optimizer, session.schedule, session.config)
    step.enter(Stage.WARMUP)

    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        image, text = module.encode_image(images), module.encode_text(tokens)
    logits = module.logit_scale.exp() * functional.normalize(image.float()) @ functional.normalize(text.float()).T
    loss = sum(functional.cross_entropy(side, torch.arange(12)) for side in (logits, logits.T)) / 2
    parameters = dict(module.named_parameters())
    wanted = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
    norm = torch.stack([gradient.norm() for gradient in wanted.values()]).norm()
    assert norm > 0.1

    losses, found = step(0, images, tokens, Rows(torch.arange(12), None), None)
    assert float(losses.total.detach()) == pytest.approx(float(loss.detach()), rel=tolerance)
    assert float(found) == pytest.approx(float(norm), rel=tolerance)
    for name, parameter in parameters.items():
        gradient = wanted[name] * 0.01 / norm
        assert parameter.grad is not None, name
        assert (parameter.grad - gradient).norm() <= tolerance * max(float(gradient.norm()), 1e-4), name


def test_the_warm_up_gives_the_heads_no_gradient(shapes_config: dict[str, Any]) -> None:
    """They learn their BatchNorm's statistics, and nothing else."""
    session = build_session(build_config(shapes_config, "test"), lambda items, _: items)
    rows = np.arange(0, 72, 6)
    images, tokens = session.data.pipeline(
        session.data.loader.load(Requests(rows, rows, np.zeros(12, dtype=np.int64)))
    )
    before = {name: value.clone() for name, value in session.heads.state_dict().items()}
    step = TrainStep(session.model.module, session.heads, session.optimizer, session.schedule, session.config)
    step.enter(Stage.WARMUP)
    step(0, images, tokens, Rows(torch.arange(12), None), None)
    changed = {name for name, value in session.heads.state_dict().items() if not torch.equal(value, before[name])}
    assert all(parameter.grad is None for parameter in session.heads.parameters())
    assert changed
    assert {name.rpartition(".")[2] for name in changed} == {"running_mean", "running_var", "num_batches_tracked"}

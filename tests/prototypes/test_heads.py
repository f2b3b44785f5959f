"""How the two heads begin, and which of their weights decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from protoclip.config.schema import OptimConfig
from protoclip.prototypes.heads import Heads
from protoclip.training.optim import make_optimizer


def test_heads_begin_alike_only_where_it_is_asked_for() -> None:
    torch.manual_seed(0)
    apart = Heads(4, 3, 8)
    after = torch.rand(1)
    torch.manual_seed(0)
    alike = Heads(4, 3, 8, same_start=True)
    assert torch.equal(torch.rand(1), after)
    features = torch.randn(5, 4)
    assert torch.equal(alike.image(features), alike.text(features))
    assert torch.equal(alike.image(features), apart.image(features))
    assert not torch.equal(apart.image(features), apart.text(features))
    assert alike.image.layers[0].weight.data_ptr() != alike.text.layers[0].weight.data_ptr()


@pytest.mark.parametrize(("own", "expected"), [(None, 0.3), (0.0, 0.0), (0.1, 0.1)])
def test_the_heads_decay_is_their_own(own: float | None, expected: float) -> None:
    module = nn.Module()
    module.visual = nn.Linear(4, 4)
    optimizer = make_optimizer(module, Heads(4, 3, 8), OptimConfig(weight_decay=0.3, head_weight_decay=own))
    decays = {
        (group["tower"], bool(group["params"][0].ndim >= 2)): group["weight_decay"]
        for group in optimizer.param_groups
    }
    assert decays == {
        ("image", True): 0.3,
        ("image", False): 0.0,
        ("heads", True): expected,
        ("heads", False): 0.0,
    }

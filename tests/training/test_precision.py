"""Every forward pass of a run is in the precision that was asked for, and its batches can be copied ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from protoclip.config.load import build_config
from protoclip.data.batches import Requests
from protoclip.training.extraction import extract_episode
from protoclip.training.session import build_session


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_extraction_and_validation_are_in_the_precision_of_training(
    shapes_config: dict[str, Any], precision: str, dtype: torch.dtype
) -> None:
    """They ran in float32 whatever training ran in."""
    shapes_config["train"]["precision"] = precision
    shapes_config["data"]["group_column"] = None
    shapes_config["validation"] = {"fraction": 0.2}
    session = build_session(build_config(shapes_config, "test"), lambda items, _: items)
    seen: list[torch.dtype] = []
    for name in ("visual.conv1", "transformer.resblocks.0.mlp.c_fc"):
        session.model.module.get_submodule(name).register_forward_hook(
            lambda module, inputs, output: seen.append(output.dtype)
        )
    episode = session.data.plan.episode(1)
    shard = extract_episode(
        session.model.module, session.heads, session.data, precision, lambda items, _: items, episode
    )
    assert shard.image.dtype == shard.text.dtype == torch.float32
    torch.testing.assert_close(shard.image.norm(dim=1), torch.ones(len(shard.image)))
    assert session.validation is not None
    half = len(seen)
    session.validation.measure(session.model.module)
    assert 0 < half < len(seen)
    assert set(seen) == {dtype}


def test_a_loader_pins_every_tensor_of_a_batch(
    shapes_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does not know how to pin it leaves as it is, without a word, and the copy waits for the GPU."""
    from torch.utils.data._utils.pin_memory import pin_memory

    session = build_session(build_config(shapes_config, "test"), lambda items, _: items)
    rows = np.arange(4)
    batch = session.data.loader.load(Requests(rows, rows, np.zeros(4, dtype=np.int64)))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    pinned = pin_memory(batch)
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    assert len(tensors) == 4
    assert all(torch.equal(getattr(pinned, name), value + 1) for name, value in tensors.items())
    assert pinned.left_out == batch.left_out

"""The fingerprint: the same for the same model, another for each thing that changes a vector."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch

from export.graphs.fingerprint import fingerprint
from export.graphs.source import load_source
from protoclip.encoders.model import ClipModel


def test_same_model_same_fingerprint(tiny_clip: ClipModel) -> None:
    torch.manual_seed(1234)
    again = load_source("tiny-vit").clip
    assert fingerprint(again) == fingerprint(tiny_clip) == fingerprint(replace(tiny_clip, source="another name"))


def test_loading_random_weights_leaves_the_callers_random_numbers_alone(architectures: tuple[str, ...]) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load_source("tiny-vit")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda clip: {"pixels": replace(clip.pixels, resize="squash")},
        lambda clip: {"pixels": replace(clip.pixels, background=(0, 0, 0))},
        lambda clip: {"pixels": replace(clip.pixels, color_management="srgb")},
        lambda clip: {"mean": (0.5, 0.5, 0.5)},
        lambda clip: {"std": (0.5, 0.5, 0.5)},
        lambda clip: {"text": replace(clip.text, cleaner="none")},
        lambda clip: {"tokenizer_json": clip.tokenizer_json + " "},
        lambda clip: {"model_config": {**clip.model_config, "quick_gelu": False}},
    ],
)
def test_every_setting_counts(tiny_clip: ClipModel, change: Any) -> None:
    assert fingerprint(replace(tiny_clip, **change(tiny_clip))) != fingerprint(tiny_clip)


def test_the_last_bit_of_a_weight_counts(tiny_clip: ClipModel) -> None:
    module = deepcopy(tiny_clip.module)
    bits = module.visual.proj.data.view(torch.int32)
    bits[0, 0] ^= 1
    assert fingerprint(replace(tiny_clip, module=module)) != fingerprint(tiny_clip)

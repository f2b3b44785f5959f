"""The gate lets good exports pass and stops each planted mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import nn

from export.engines import open_engine
from export.parity.compare import Comparison
from export.parity.gates import FP32_GATE, comparison_check
from export.parity.reference import torch_reference
from export.parity.report import EngineReport
from export.parity.samples import Samples
from export.parity.verify import batch_sizes_to, make_report, verify_engine
from protoclip.contract.errors import DataError
from protoclip.contract.progress import Progress, silent
from protoclip.contract.served_parameters import MAX_BATCH_SIZE
from protoclip.encoders.model import ClipModel

BATCH_SIZES = batch_sizes_to(MAX_BATCH_SIZE)


def test_a_good_export_passes(exported: Any, samples: Samples) -> None:
    report = _verify(exported.clip, exported.folder, samples)
    assert report.failures == ()
    for _, found in report.same_inputs():
        assert found.max_abs_difference <= 1e-6
    assert report.from_files.num_inputs == 26
    assert report.from_files.min_centred_cosine > 0.999
    assert set(report.image.by_batch_size) == set(report.text.by_batch_size) == set(BATCH_SIZES) == {1, 7, 8, 64}
    assert report.answers.top_1_image_to_text == report.answers.top_1_text_to_image == 1


def swap_red_and_blue(module: nn.Module) -> None:
    module.visual.conv1.weight.data = module.visual.conv1.weight.data.flip(1)


def widen_layer_norm_epsilon(module: nn.Module) -> None:
    for layer in module.visual.modules():
        if isinstance(layer, nn.LayerNorm):
            layer.eps = 1e-4


def add_one_to_one_weight(module: nn.Module) -> None:
    module.visual.proj.data[0, 0] += 1


def add_one_to_one_text_weight(module: nn.Module) -> None:
    module.transformer.resblocks[0].mlp.c_proj.weight.data[0, 0] += 1


def gelu_for_quick_gelu(module: nn.Module) -> None:
    for block in (*module.visual.transformer.resblocks, *module.transformer.resblocks):
        block.mlp.gelu = nn.GELU()


@pytest.mark.parametrize(
    ("plant", "encoder"),
    [
        (swap_red_and_blue, "image"),
        (widen_layer_norm_epsilon, "image"),
        (add_one_to_one_weight, "image"),
        (gelu_for_quick_gelu, "image"),
        (gelu_for_quick_gelu, "text"),
        (add_one_to_one_text_weight, "text"),
    ],
)
def test_a_model_that_differs_is_stopped(
    exported_vit: Any, samples: Samples, plant: Callable[[nn.Module], None], encoder: str
) -> None:
    report = _verify(_planted(exported_vit.clip, plant), exported_vit.folder, samples)
    assert {f"{encoder}, batch {size}" for size in BATCH_SIZES} <= _failed(report)
    assert not report.passed


def test_text_pooled_one_token_off_is_stopped(
    exported_vit: Any, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def early(x: torch.Tensor, text: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return x[torch.arange(len(x)), text.argmax(dim=-1) - 1]

    monkeypatch.setattr(open_clip.model, "text_global_pool", early)
    report = _verify(exported_vit.clip, exported_vit.folder, samples)
    assert _failed(report) == {"text, adversarial", *(f"text, batch {size}" for size in BATCH_SIZES)}


@pytest.mark.parametrize("field", ["mean", "std"])
def test_another_normalisation_is_stopped(exported_vit: Any, samples: Samples, field: str) -> None:
    other = tuple(value + 0.01 for value in getattr(exported_vit.clip, field))
    report = _verify(replace(exported_vit.clip, **{field: other}), exported_vit.folder, samples)
    assert {f"image, batch {size}" for size in BATCH_SIZES} <= _failed(report)
    assert not any(name.startswith("text") for name in _failed(report))


def test_nan_is_stopped_and_the_report_stays_json(exported_vit: Any, samples: Samples) -> None:
    def break_one(module: nn.Module) -> None:
        module.visual.proj.data[0, 0] = float("nan")

    report = _verify(_planted(exported_vit.clip, break_one), exported_vit.folder, samples)
    assert not report.passed
    assert not report.finite
    assert "image, batch 1: NaN or infinity" in report.failures
    reference = torch_reference(exported_vit.clip, samples, silent)
    whole = json.loads(make_report(reference, [report], False).to_json(), parse_constant=pytest.fail)
    found = whole["engines"][0]
    assert (found["passed"], whole["passed"]) == (False, False)
    assert found["image"]["by_batch_size"]["1"]["max_abs_difference"] is None
    assert found["answers"] is None


def test_a_zero_embedding_is_stopped(exported_vit: Any, samples: Samples) -> None:
    def silence(module: nn.Module) -> None:
        module.text_projection.data.zero_()

    report = _verify(_planted(exported_vit.clip, silence), exported_vit.folder, samples)
    assert any(
        failure.startswith("text, batch 1: ") and "an embedding is zero" in failure for failure in report.failures
    )


@pytest.mark.parametrize(
    ("difference", "cosine", "why"),
    [
        (1e-5, 0.999999, ""),
        (1.01e-5, 1.0, "off by 1.0e-05, allowed 1e-05"),
        (0.0, 0.9999989, "cosine 0.9999989, needed 0.999999"),
        (1.0, None, "off by 1.0e+00, allowed 1e-05; an embedding is zero"),
    ],
)
def test_where_the_gate_stands(difference: float, cosine: float | None, why: str) -> None:
    found = Comparison(256, True, difference, cosine, cosine, None, None, None)
    check = comparison_check("image", found, FP32_GATE)
    assert (check.outcome, check.explanation) == ("failed" if why else "passed", why)
    assert check.bound == "difference ≤ 1e-05, cosine ≥ 0.999999"


def test_report_says_what_random_weights_prove(exported_vit: Any, samples: Samples) -> None:
    engine = _verify(exported_vit.clip, exported_vit.folder, samples)
    reference = torch_reference(exported_vit.clip, samples, silent)
    report = make_report(reference, [engine], random_weights=True)
    assert report.proves == "the graph, not accuracy: the weights are random"
    assert json.loads(report.to_json())["proves"] == report.proves


def test_progress_reaches_the_end(exported_vit: Any, samples: Samples) -> None:
    seen: dict[str, tuple[int, int]] = {}
    _verify(
        exported_vit.clip,
        exported_vit.folder,
        samples,
        progress=lambda what, done, total: seen.update({what: (done, total)}),
    )
    assert len(seen) == 2 * (1 + len(BATCH_SIZES))
    assert set(seen.values()) == {(20, 20), (64, 64)}


def test_a_sample_that_is_no_picture_is_named(exported_vit: Any, samples: Samples) -> None:
    broken = replace(samples, pictures=(*samples.pictures[:5], b"no picture", *samples.pictures[6:]))
    with pytest.raises(DataError, match="drawings: picture 5: "):
        _verify(exported_vit.clip, exported_vit.folder, broken)


def _verify(clip: ClipModel, folder: Path, samples: Samples, progress: Progress = silent) -> EngineReport:
    reference = torch_reference(clip, samples, progress)
    return verify_engine(reference, open_engine(folder, "fp32"), "onnx_fp32", "fp32", progress=progress)


def _planted(clip: ClipModel, plant: Callable[[nn.Module], None]) -> ClipModel:
    module = deepcopy(clip.module)
    plant(module)
    return replace(clip, module=module)


def _failed(report: EngineReport) -> set[str]:
    return {failure.split(":")[0] for failure in report.failures}

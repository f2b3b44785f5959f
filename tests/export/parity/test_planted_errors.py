"""Mistakes planted beside a trained model: the gate stops each of them, every time.

Embeddings of an untrained model crowd together, where mistakes hide; this one was trained to tell its
pictures apart. `benchmarks/planted_errors.py` does the same on the demo's model.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from export.graphs.encoders import ImageEncoder, TextEncoder, example_pixels, example_tokens
from export.graphs.runtime import Encoders, open_onnx_engine
from export.graphs.source import load_source
from export.graphs.to_onnx import IMAGE, TEXT, write_onnx
from export.parity.checks import Check
from export.parity.gates import GATES, gate_of, missed_thresholds
from export.parity.reference import Reference, torch_reference
from export.parity.report import EngineReport
from export.parity.samples import Samples, sample_pixels, sample_tokens
from export.parity.verify import verify_engine
from protoclip.contract.pixels import PixelSpec
from protoclip.contract.progress import silent
from protoclip.contract.text import Tokenizer
from protoclip.encoders.model import ClipModel, encode_images, encode_texts
from scripts import load_script

STEPS = 150


@pytest.fixture(scope="module")
def plants() -> ModuleType:
    """benchmarks/planted_errors.py, which names the mistakes."""
    return load_script("benchmarks/planted_errors.py")


@pytest.fixture(scope="module")
def trained(architectures: tuple[str, ...], samples: Samples) -> ClipModel:
    """tiny-vit after some steps of contrastive learning on the samples: it tells all of them apart."""
    clip = load_source("tiny-vit").clip
    clip = replace(clip, module=deepcopy(clip.module).requires_grad_(True))
    pixels = torch.from_numpy(sample_pixels(samples, clip.pixels))
    tokens = torch.from_numpy(sample_tokens(samples, Tokenizer(clip.tokenizer_json, clip.text)))
    optimizer = torch.optim.Adam(clip.module.parameters(), 3e-3)
    for _ in range(STEPS):
        logits = 10 * encode_images(clip, pixels) @ encode_texts(clip, tokens).T
        truth = torch.arange(len(logits))
        optimizer.zero_grad()
        (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)).backward()
        optimizer.step()
    assert (logits.argmax(dim=1) == truth).float().mean() > 0.9
    return replace(clip, module=clip.module.eval().requires_grad_(False))


@pytest.fixture(scope="module")
def encoders(trained: ClipModel, tmp_path_factory: pytest.TempPathFactory) -> Encoders:
    """The trained model's right export."""
    folder = tmp_path_factory.mktemp("trained")
    write_onnx(ImageEncoder(trained), example_pixels(trained), folder / IMAGE.file, IMAGE)
    write_onnx(TextEncoder(trained), example_tokens(trained), folder / TEXT.file, TEXT)
    return open_onnx_engine(folder / IMAGE.file, folder / TEXT.file, (IMAGE, TEXT), "fp32")


@pytest.fixture(scope="module")
def reference(trained: ClipModel, samples: Samples) -> Reference:
    return torch_reference(trained, samples, silent)


def test_the_right_export_passes_every_gate(reference: Reference, encoders: Encoders) -> None:
    report = verify_engine(reference, encoders, "onnx_fp32", "fp32")
    for precision in GATES:
        for name, found in report.comparisons():
            assert missed_thresholds(found, gate_of(precision, name)) == []
    assert report.answers.recall_at_1_image_to_text[0] > 0.9


@pytest.mark.parametrize(
    ("plant", "encoder"),
    [
        ("wide_epsilon", "image"),
        ("wide_epsilon", "text"),
        ("other_gelu", "image"),
        ("other_gelu", "text"),
        ("visual.transformer", "image"),
        ("transformer.resblocks.0.mlp", "text"),
        ("swap_channels", "image"),
    ],
)
def test_another_model_is_stopped(
    plants: ModuleType, trained: ClipModel, samples: Samples, encoders: Encoders, plant: str, encoder: str
) -> None:
    change: Callable[[nn.Module], None] = getattr(plants, plant, None) or _plus_one(plants, plant)
    module = deepcopy(trained.module)
    change(module)
    report = _verify(replace(trained, module=module), samples, encoders)
    assert f"{encoder}, batch 8" in _failed(report)


def test_text_pooled_one_token_early_is_stopped(
    trained: ClipModel, samples: Samples, encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def early(x: torch.Tensor, text: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return x[torch.arange(len(x)), text.argmax(dim=-1) - 1]

    monkeypatch.setattr("open_clip.model.text_global_pool", early)
    assert {"text, batch 8", "text, adversarial"} <= _failed(_verify(trained, samples, encoders))


def test_another_models_mean_and_std_are_stopped(trained: ClipModel, samples: Samples, encoders: Encoders) -> None:
    other = replace(trained, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert "image, batch 8" in _failed(_verify(other, samples, encoders))


def test_a_description_that_is_not_the_models_own_is_stopped(
    trained: ClipModel, samples: Samples, encoders: Encoders
) -> None:
    """The graph and the description agree with each other, and not with what open_clip does."""
    module = deepcopy(trained.module)
    module.visual.preprocess_cfg = {**module.visual.preprocess_cfg, "std": (0.5, 0.5, 0.5)}
    assert _failed(_verify(replace(trained, module=module), samples, encoders)) == {"image, from files"}


@pytest.mark.parametrize(
    "change",
    [
        {"interpolation": "bilinear"},
        {"resize": "squash"},
        {"resize": "longest"},
        {"background": (0, 0, 0)},
        {"color_management": "srgb"},
    ],
)
def test_a_manifest_that_prepares_pictures_otherwise_is_stopped(
    reference: Reference, encoders: Encoders, change: dict[str, object]
) -> None:
    wrong: PixelSpec = replace(reference.pixels, **change)  # type: ignore[arg-type]
    report = verify_engine(reference, encoders, "onnx_fp32", "fp32", pixels=wrong, batch_sizes=(8,))
    assert _failed(report) == {"image, from files"}


def test_swapped_answers_show_in_recall(reference: Reference, encoders: Encoders) -> None:
    swapped = replace(encoders, image=lambda batch: encoders.image(batch)[::-1])
    report = verify_engine(reference, swapped, "onnx_int8", "int8", batch_sizes=(20,))
    before, after = report.answers.recall_at_1_image_to_text
    assert before > 0.9
    assert after < 0.1
    assert report.answers.top_1_image_to_text < 0.1


def _plus_one(plants: ModuleType, which: str) -> Callable[[nn.Module], None]:
    change: Callable[[nn.Module], None] = plants.plus_one(which)
    return change


def _verify(clip: ClipModel, samples: Samples, encoders: Encoders) -> EngineReport:
    return verify_engine(torch_reference(clip, samples, silent), encoders, "onnx_fp32", "fp32", batch_sizes=(8,))


def _failed(report: EngineReport) -> set[str]:
    return {failure.split(":")[0] for failure in report.failures}


def test_a_mistake_that_passes_ends_with_1_and_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    planted = load_script("benchmarks/planted.py")
    outcomes = [
        planted.outcome_of("none", set(), set()),
        planted.outcome_of("louder", {"text, unit norm"}, {"text, unit norm", "text, batch 8", "text, batch 64"}),
        planted.outcome_of("leaking", {"text, rows alone", "text, batch 8"}, {"text, batch 8"}),
        planted.outcome_of("none again", set(), {"tokens"}),
    ]
    assert [outcome.word for outcome in outcomes] == ["passed", "found", "MISSED", "FALSE ALARM"]
    for found, code, said in (
        (outcomes[:2], 0, ""),
        (outcomes, 1, "leaking: MISSED by text, rows alone\nnone again: FALSE ALARM by tokens\n"),
    ):
        with pytest.raises(SystemExit) as ended:
            planted.run("", lambda *_, found=found: ("table", found), samples=8, arguments=[str(tmp_path)])
        assert (ended.value.code, capsys.readouterr().err) == (code, said)


def test_every_failed_check_is_in_the_table_by_name() -> None:
    planted = load_script("benchmarks/planted.py")
    names = {"text, batch 64", "text, batch 8", "text, range of fp16", "onnx_fp32, image, batch 7"}
    assert planted.words(names) == "onnx_fp32, image, batch 7; text, batch 8, 64; text, range of fp16"
    assert planted.words(()) == "none"


def test_what_every_precision_has_to_find(plants: ModuleType) -> None:
    right, *wrong = plants.PLANTS
    assert not right.found_by
    assert all(plant.found_by for plant in wrong)
    loud = next(plant for plant in wrong if plant.everywhere)
    passed = SimpleNamespace(checks=())
    failed = SimpleNamespace(checks=tuple(Check(name, "failed", "x") for name in loud.found_by))
    reports = dict.fromkeys(plants.PRECISIONS, failed)
    assert plants.judged(loud, reports).word == "found"
    assert plants.judged(loud, {**reports, "int8": passed}).word == "MISSED"
    assert plants.judged(right, {**dict.fromkeys(reports, passed), "int8": failed}).word == "FALSE ALARM"

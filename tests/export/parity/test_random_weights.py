"""What random weights prove of a lower precision, and how long a comparison takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from export.engines import open_engine
from export.graphs.runtime import Encode, Encoders
from export.parity.budget import comparison_budget, shown_time
from export.parity.reference import Reference, torch_reference
from export.parity.samples import Samples
from export.parity.verify import verify_engine
from protoclip.contract.progress import silent


@pytest.fixture(scope="module")
def reference(exported_vit: Any, samples: Samples) -> Reference:
    return torch_reference(exported_vit.clip, samples, silent, random_weights=True, largest_batch=9)


@pytest.fixture(scope="module")
def right(exported_vit: Any) -> Encoders:
    return open_engine(exported_vit.folder, "fp32")


def rounded(encode: Encode) -> Encode:
    """Errors of a few percent of every embedding, the same ones each time."""

    def run(batch: np.ndarray) -> np.ndarray:
        rows = encode(batch).astype(np.float64)
        rows += 0.5 * (rows - rows.mean(axis=1, keepdims=True)) ** 2
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    return run


def test_errors_as_of_rounding_are_an_open_question(reference: Reference, right: Encoders) -> None:
    near = replace(right, image=rounded(right.image))
    report = verify_engine(reference, near, "onnx_int8", "int8")
    assert report.passed
    assert any(line.startswith("accuracy: the weights are random") for line in report.not_checked)
    known = verify_engine(replace(reference, random_weights=False), near, "onnx_int8", "int8")
    lines = [failure.split(":")[0] for failure in known.failures]
    assert lines, "trained weights would fail"
    assert all(any(line.startswith(f"{name}: ") for line in report.not_checked) for name in lines)


def test_another_graph_fails_all_the_same(reference: Reference, right: Encoders) -> None:
    swapped = replace(right, image=lambda batch: right.image(batch[..., ::-1].copy()[:, ::-1].copy()))
    loud = replace(right, text=lambda batch: right.text(batch) * np.float32(1.15))
    broken = replace(right, text=lambda batch: right.text(batch) * np.float32(np.nan))
    for wrong, check in ((swapped, "image, batch 1"), (loud, "text, unit norm"), (broken, "text, batch 1")):
        report = verify_engine(reference, wrong, "onnx_int8", "int8")
        assert check in {failure.split(":")[0] for failure in report.failures}


def test_float32_has_no_accuracy_of_its_own_to_prove(reference: Reference, right: Encoders) -> None:
    report = verify_engine(reference, right, "onnx_fp32", "fp32")
    assert (report.failures, report.not_checked) == ((), ())
    assert set(report.image.by_batch_size) == {1, 7, 8, 9}


def test_a_budget_grows_with_samples_engines_and_what_is_emulated(exported_vit: Any, samples: Samples) -> None:
    clip = exported_vit.clip
    seconds, line = comparison_budget(clip, samples, ["fp32"], 64)
    assert seconds > 0
    assert line.startswith("comparing 1 engine on 20 pictures and texts in batches of 1, 7, 8 and 64: about ")
    assert "3 engines" in comparison_budget(clip, samples, ["fp32", "int8", "bf16"], 1)[1]
    assert [shown_time(value) for value in (4, 89, 90, 3600, 5400)] == ["4 s", "89 s", "2 min", "60 min", "1.5 h"]

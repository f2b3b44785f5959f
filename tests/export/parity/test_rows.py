"""A row's norm, and that it is what it is alone: planted at every precision, and caught by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from export.engines import open_engine
from export.graphs.quantization import write_int8_dynamic
from export.graphs.runtime import Encode, Encoders, open_encoder
from export.graphs.to_onnx import IMAGE, TEXT
from export.parity.gates import GATES
from export.parity.reference import Reference, engine_reference, torch_reference
from export.parity.report import EngineReport
from export.parity.samples import Samples
from export.parity.verify import batch_sizes_to, verify_engine
from protoclip.contract.manifest import Precision
from protoclip.contract.progress import silent

PRECISIONS = tuple(GATES)


@pytest.fixture(scope="module")
def reference(exported_vit: Any, samples: Samples) -> Reference:
    return torch_reference(exported_vit.clip, samples, silent)


@pytest.fixture(scope="module")
def right(exported_vit: Any) -> Encoders:
    return open_engine(exported_vit.folder, "fp32")


def louder(encode: Encode) -> Encode:
    """Embeddings of the norm 1.15."""
    return lambda batch: encode(batch) * np.float32(1.15)


def leaking(encode: Encode) -> Encode:
    """Two percent of the row before, and unit norm."""

    def run(batch: np.ndarray) -> np.ndarray:
        rows = encode(batch)
        mixed = 0.98 * rows + 0.02 * np.roll(rows, 1, axis=0)
        return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)

    return run


def leaking_from_the_first(encode: Encode) -> Encode:
    """Two percent of the first row in every row, as where its scale is taken for all; and unit norm."""

    def run(batch: np.ndarray) -> np.ndarray:
        rows = encode(batch)
        mixed = 0.98 * rows + 0.02 * rows[:1]
        return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)

    return run


def wrong_from(size: int) -> Callable[[Encode], Encode]:
    """Rows swapped in batches of `size` and more, as a kernel that was never run at that size may give."""
    return lambda encode: lambda batch: encode(batch)[::-1] if len(batch) >= size else encode(batch)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_right_export_passes(reference: Reference, right: Encoders, precision: Precision) -> None:
    report = verify_engine(reference, right, "onnx", precision, batch_sizes=(1, 7, 64))
    assert report.failures == ()
    assert {"image, unit norm", "text, rows alone", "text, rows beside others"} <= {c.name for c in report.checks}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (louder, "unit norm"),
        (leaking, "rows beside others"),
        (leaking_from_the_first, "rows beside others"),
        (wrong_from(33), "rows alone"),
    ],
)
@pytest.mark.parametrize("encoder", ["image", "text"])
def test_a_planted_error_is_stopped_by_name(
    reference: Reference,
    right: Encoders,
    precision: Precision,
    plant: Callable[[Encode], Encode],
    check: str,
    encoder: str,
) -> None:
    wrong = replace(right, **{encoder: plant(getattr(right, encoder))})
    report = verify_engine(reference, wrong, "onnx", precision, batch_sizes=(1, 7, 64))
    assert f"{encoder}, {check}" in _failed(report)


def test_int8_by_row_is_alone_what_it_is_in_any_batch_and_by_batch_is_not(
    exported_vit: Any, reference: Reference, tmp_path: Path
) -> None:
    """ONNX Runtime's own dynamic int8 has one scale for all of a batch."""
    source = exported_vit.folder / "onnx_fp32"
    for signature in (IMAGE, TEXT):
        write_int8_dynamic(source / signature.file, tmp_path / signature.file)
        quantize_dynamic(
            source / signature.file,
            tmp_path / f"batch_{signature.file}",
            op_types_to_quantize=["MatMul", "Gemm"],
            weight_type=QuantType.QInt8,
        )
    engines = {
        prefix: Encoders(
            open_encoder(tmp_path / f"{prefix}{IMAGE.file}", IMAGE, "int8"),
            open_encoder(tmp_path / f"{prefix}{TEXT.file}", TEXT, "int8"),
            "ONNX Runtime",
        )
        for prefix in ("", "batch_")
    }
    by_row, by_batch = (verify_engine(reference, engine, "onnx_int8", "int8") for engine in engines.values())
    assert by_row.failures == ()
    assert {"image, rows beside others", "text, rows beside others"} <= _failed(by_batch)
    again = engine_reference(reference, engines[""].image, engines[""].text, "itself")
    rows = verify_engine(again, engines[""], "onnx_int8", "fp32", batch_sizes=(1, 7, 64))
    assert rows.failures == (), "in batches of 32, 1, 7 and 64 the same numbers"


def test_a_row_of_zeros_and_one_of_large_numbers_are_quantized(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(16, 300)).astype(np.float32)
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", size])
        for name, size in (("x", 16), ("y", 300))
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        shapes[:1],
        shapes[1:],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "a.onnx")
    write_int8_dynamic(tmp_path / "a.onnx", tmp_path / "b.onnx")
    run = open_encoder(tmp_path / "b.onnx", replace(IMAGE, input_name="x", output_name="y"), "int8")
    rows = np.stack([np.zeros(16), np.full(16, 1e20), np.linspace(-1, 1, 16) * 1e-20]).astype(np.float32)
    found = run(rows)
    expected = rows @ weights
    assert not found[0].any()
    for row in (1, 2):
        assert np.abs(found[row] - expected[row]).max() < 0.02 * np.abs(expected[row]).max()


@pytest.mark.parametrize(
    ("largest", "usual", "sizes"),
    [(64, (8,), (1, 7, 8, 64)), (1, (8,), (1,)), (4096, (32, 256), (1, 7, 32, 256, 4096)), (4, (2, 4), (1, 2, 4))],
)
def test_which_sizes_are_compared(largest: int, usual: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    assert batch_sizes_to(largest, usual) == sizes


def _failed(report: EngineReport) -> set[str]:
    return {check.name for check in report.checks if check.outcome == "failed"}

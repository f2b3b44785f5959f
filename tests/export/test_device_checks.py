"""Checks that depend on the device: what a CPU leaves open, what overflows, and what a GPU leaves to the CPU."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import export.device_checks
import export.graphs.runtime
import export.graphs.sessions as sessions
from export.artifact import export_artifact
from export.device_checks import GPU_ARITHMETIC, PLACEMENT, PLAIN, device_checks
from export.engine_graphs import judge_graphs
from export.graphs.plain_run import fails_plainly
from export.graphs.precision import write_precision
from export.graphs.rounded import TensorRange
from export.graphs.runtime import Encoders, open_onnx_engine
from export.graphs.to_onnx import IMAGE, TEXT
from export.parity.ranges import range_check
from export.parity.reference import Reference, torch_reference
from export.parity.samples import Samples
from export.parity.verdict_page import verdict_page
from export.parity.verify import make_report
from protoclip.contract.errors import ModelError
from protoclip.contract.progress import silent

pytestmark = pytest.mark.usefixtures("traced_once")


@pytest.fixture(scope="module")
def reference(tiny_clip: Any, samples: Samples) -> Reference:
    return torch_reference(tiny_clip, samples, silent)


@pytest.fixture(scope="module")
def fp16(exported_vit: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with onnx_fp16 of the right model."""
    folder = tmp_path_factory.mktemp("fp16")
    (folder / "onnx_fp16").mkdir()
    for signature in (IMAGE, TEXT):
        source = exported_vit.folder / "onnx_fp32" / signature.file
        write_precision("fp16", source, folder / "onnx_fp16" / signature.file, signature)
    return folder


def test_a_right_export_passes_and_leaves_the_gpu_open(reference: Reference, fp16: Path) -> None:
    report, encoders = judge_graphs(reference, fp16, "fp16")
    outcomes = {check.name: check.outcome for check in report.checks}
    assert report.passed, report.failures
    assert outcomes["image, range of fp16"] == outcomes["text, range of fp16"] == "passed"
    assert outcomes[PLAIN] == "passed"
    assert outcomes[GPU_ARITHMETIC] == "not checked"
    assert "rounded as fp16 rounds" in encoders.backend
    page = verdict_page(make_report(reference, [report], random_weights=True))
    assert GPU_ARITHMETIC in page
    assert "text, range of fp16" in page


def test_an_activation_beyond_half_is_named_and_left_out(tiny_clip: Any, samples: Samples, tmp_path: Path) -> None:
    """Float32 arithmetic gives a cosine near 1 for it, and a GPU no number at all."""
    clip = replace(tiny_clip, module=deepcopy(tiny_clip.module))
    with torch.no_grad():
        clip.module.get_parameter("transformer.resblocks.0.mlp.c_fc.bias")[0] = 1.9e6
        clip.module.get_parameter("transformer.resblocks.0.mlp.c_proj.weight")[:, 0] *= 1e-6
    manifest = export_artifact(
        clip, tmp_path / "artifact", "tiny", samples, precisions=["fp16"], random_weights=True
    )
    assert [engine.name for engine in manifest.engines] == ["onnx_fp32"]
    text = (tmp_path / "artifact" / "verdict.json").read_text()
    assert (
        "text, range of fp16: weight clip.transformer.resblocks.0.mlp.c_fc.bias holds larger numbers: use fp32"
        in text
    )


def test_a_graph_that_ends_the_process_is_named(tmp_path: Path) -> None:
    """The pattern that the conversion avoids: a Transpose before a MatMul in fp16. An error is one line."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Transpose", ["half"], ["t"], perm=[1, 0, 2]),
            helper.make_node("MatMul", ["t", "w"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT32, ["n", 16, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, None)],
        [numpy_helper.from_array(np.ones((32, 8), np.float16), "w")],
    )
    path = tmp_path / "graph.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10), path)
    assert fails_plainly(path) == "ends the process with signal 11"
    (tmp_path / "none.onnx").write_bytes(b"no graph")
    assert "none.onnx" in str(fails_plainly(tmp_path / "none.onnx"))


@pytest.mark.parametrize(
    ("infinite", "largest", "failure"),
    [
        ([], 60000.0, None),
        ([], 65520.0, "tensor b reaches 6.55e+04, and fp16 ends at 65504: use bf16 or fp32"),
        (["w", "v"], 1.0, "weight w holds larger numbers (and 1 more): use fp32"),
    ],
)
def test_ranges_are_judged_by_the_largest_finite_number(
    infinite: list[str], largest: float, failure: str | None
) -> None:
    ranges = {"a": TensorRange(1.0, 1e-4), "b": TensorRange(largest, 3e-4)}
    check = range_check("text, range of fp16", "fp16", infinite, ranges)
    assert (check.outcome == "passed") is (failure is None)
    assert check.explanation == (failure or "")
    assert "3.0e-04 of a tensor, b" in str(check.measured)


def test_what_the_cpu_computes_beside_a_gpu_fails(
    reference: Reference, exported_vit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders = _on_cuda(exported_vit.folder)
    monkeypatch.setattr(export.device_checks, "nodes_off_the_gpu", lambda *_: ["ReduceMean"])
    arithmetic, placement = device_checks(reference, encoders, "fp32")
    assert (arithmetic.name, arithmetic.outcome) == (GPU_ARITHMETIC, "passed")
    assert (placement.name, placement.outcome) == (PLACEMENT, "failed")
    assert "CUDA has no kernel for ReduceMean of image.onnx, ReduceMean of text.onnx" in placement.explanation
    monkeypatch.setattr(export.device_checks, "nodes_off_the_gpu", lambda *_: [])
    assert device_checks(reference, encoders, "fp32")[1].outcome == "passed"


def test_operators_on_the_cpu_are_those_of_floating_point(
    reference: Reference, exported_vit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_providers", lambda *_: ["CPUExecutionProvider"])
    path = exported_vit.folder / "onnx_fp32" / TEXT.file
    found = sessions.nodes_off_the_gpu(path, "fp32", reference.texts.real[:2], TEXT)
    assert {"LayerNormalization", "Softmax"} <= set(found)
    assert not {"Shape", "ArgMax", "Range"} & set(found)


def test_nothing_falls_back_to_the_cpu_unseen(exported_vit: Any) -> None:
    """This ONNX Runtime has no CUDA, which it only warns about."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    path = exported_vit.folder / "onnx_fp32" / TEXT.file
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(ModelError) as caught:
        sessions.open_session(path, "ORT_ENABLE_ALL", "cuda")
    assert "can't start CUDA here and would run on the CPU unseen" in str(caught.value)


def test_engines_are_opened_on_the_gpu_but_int8(exported_vit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def open_encoder(path: Path, signature: Any, precision: str, device: str) -> Any:
        opened.append((precision, device))
        return lambda batch: batch

    monkeypatch.setattr(export.graphs.runtime, "find_device", lambda: "cuda")
    monkeypatch.setattr(export.graphs.runtime, "open_encoder", open_encoder)
    monkeypatch.setattr(export.graphs.runtime, "_gpu_name", lambda: "a GPU")
    paths = [exported_vit.folder / "onnx_fp32" / signature.file for signature in (IMAGE, TEXT)]
    for precision in ("fp32", "fp16", "int8"):
        encoders = open_onnx_engine(*paths, (IMAGE, TEXT), precision)
        assert encoders.device == ("cpu" if precision == "int8" else "cuda")
    assert "on a GPU, TF32 off" in open_onnx_engine(*paths, (IMAGE, TEXT), "bf16").backend
    assert [device for precision, device in opened if precision == "int8"] == ["cpu", "cpu"]


def _on_cuda(folder: Path) -> Encoders:
    paths = (folder / "onnx_fp32" / IMAGE.file, folder / "onnx_fp32" / TEXT.file)
    return replace(open_onnx_engine(*paths, (IMAGE, TEXT), "fp32", "cpu"), device="cuda", ranges=None)

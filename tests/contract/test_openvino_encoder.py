"""OpenVINO computes in the precision that is asked for, or not at all, and reports to nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from protoclip.contract import openvino_encoder
from protoclip.contract.openvino_encoder import (
    OpenVinoEncoder,
    OpenVinoError,
    computes_bf16,
    load_openvino,
    openvino_core,
)

IMAGE = ("pixels", "image_embedding")
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
needs_bf16 = pytest.mark.skipif(
    not computes_bf16(), reason="this processor has no bf16; the refusal is tested then"
)


@pytest.fixture(scope="module")
def graph(tiny_artifact: Path) -> Path:
    return tiny_artifact / "image.onnx"


@pytest.fixture(scope="module")
def expected(graph: Path) -> Any:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    return session.run([IMAGE[1]], {IMAGE[0]: PIXELS})[0]


@pytest.mark.parametrize("threads", [0, 1])
def test_float32_is_float32(graph: Path, expected: Any, threads: int) -> None:
    encode = OpenVinoEncoder(graph, "f32", *IMAGE, threads)
    assert encode.precision == "f32"
    assert encode.version == load_openvino().__version__.split("-")[0]
    for size in (9, 1, 4):
        np.testing.assert_allclose(encode(PIXELS[:size]), expected[:size], atol=1e-6)


@needs_bf16
def test_bf16_is_bf16(graph: Path, expected: Any) -> None:
    encode = OpenVinoEncoder(graph, "bf16", *IMAGE)
    assert encode.precision == "bf16"
    rows = encode(PIXELS)
    assert 1e-5 < np.abs(rows - expected).max() < 2e-2
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_another_precision_than_asked_for_is_refused(graph: Path) -> None:
    """OpenVINO takes bf16, or float32, for a half precision that the processor lacks, and says nothing."""
    if "FP16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor computes in half precision")
    with pytest.raises(OpenVinoError, match=r"image\.onnx: OpenVINO .* computes in b?f\d\d, though asked for f16"):
        OpenVinoEncoder(graph, "f16", *IMAGE)  # type: ignore[arg-type]


def test_a_processor_without_bf16_is_refused(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a Haswell was seen to answer: asked for bf16, everything is float32."""
    ask_for = openvino_encoder._settings
    monkeypatch.setattr(openvino_encoder, "_settings", lambda precision, threads: ask_for("f32", threads))
    monkeypatch.setattr(openvino_encoder, "computes_bf16", lambda: False)
    with pytest.raises(OpenVinoError, match="computes in f32, though asked for bf16; this processor has no bf16"):
        OpenVinoEncoder(graph, "bf16", *IMAGE)


@pytest.mark.parametrize(
    ("file", "names", "reason"),
    [
        ("missing.onnx", IMAGE, r"missing\.onnx: OpenVINO .* can't load it"),
        ("broken.onnx", IMAGE, r"broken\.onnx: OpenVINO .* can't load it"),
        ("image.onnx", ("tokens", IMAGE[1]), "can't load it: .*tokens"),
        ("image.onnx", (IMAGE[0], "answer"), "can't load it: .*answer"),
    ],
)
def test_what_is_no_such_graph_is_one_line(
    graph: Path, tmp_path: Path, file: str, names: tuple[str, str], reason: str
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    (tmp_path / "image.onnx").write_bytes(graph.read_bytes())
    with pytest.raises(OpenVinoError, match=reason) as caught:
        OpenVinoEncoder(tmp_path / file, "f32", *names)
    assert "\n" not in str(caught.value)


def test_a_batch_of_another_shape_is_one_line(graph: Path) -> None:
    encode = OpenVinoEncoder(graph, "f32", *IMAGE)
    with pytest.raises(OpenVinoError, match=r"image\.onnx: OpenVINO .* fails on a batch of 2: ") as caught:
        encode(np.zeros((2, 31, 32, 3), np.uint8))
    assert "\n" not in str(caught.value)
    assert encode(PIXELS).shape == (9, 16)


def test_without_the_package(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(OpenVinoError, match=r"can't be imported \(.*\): pip install openvino"):
        OpenVinoEncoder(graph, "f32", *IMAGE)


def test_importing_it_tells_nobody(tmp_path: Path) -> None:
    """By itself the package sends an event to its maker at each import, and keeps an id in the home folder."""
    program = (
        "import sys, threading\n"
        "from protoclip.contract.openvino_encoder import load_openvino\n"
        "load_openvino().Core()\n"
        "assert 'openvino_telemetry' not in sys.modules, 'the reporter was loaded'\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}, check=False
    )
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_there_is_one_core_for_all_of_a_process(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A core that is freed takes with it the stack that its thread's signals run on: Ctrl-C ended Python."""
    openvino_core()
    monkeypatch.setattr(load_openvino(), "Core", lambda: pytest.fail("a second core was made"))
    assert OpenVinoEncoder(graph, "f32", *IMAGE)(PIXELS).shape == (9, 16)
    computes_bf16()

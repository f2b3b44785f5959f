"""16 bits on a CPU: as torch in half, overflow included, and graphs that no runtime dies of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch.nn import functional as F

from export.graphs.encoders import ImageEncoder, TextEncoder, example_pixels, example_tokens
from export.graphs.half_precision import BF16_OPS, MASK, transpose_after_products
from export.graphs.precision import write_precision
from export.graphs.rounded import open_rounded
from export.graphs.rounding import Rounded, emulated, infinite_weights
from export.graphs.sessions import find_device, open_encoder
from export.graphs.source import load_source
from export.graphs.to_onnx import IMAGE, TEXT, Signature, write_onnx
from export.parity.compare import centred_cosines, max_abs_difference
from export.parity.samples import Samples, sample_pixels, sample_tokens
from protoclip.contract.errors import ModelError
from protoclip.contract.text import Tokenizer
from protoclip.encoders.model import ClipModel

LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_LAYOUT", "ORT_ENABLE_ALL")
RUN = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, sys.argv[2])
options.intra_op_num_threads, options.log_severity_level = 1, 3
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
tensor = session.get_inputs()[0]
kind = "uint8" if "uint8" in tensor.type else "int32"
assert numpy.isfinite(session.run(None, {tensor.name: numpy.ones([3, *tensor.shape[1:]], kind)})[0]).all()
"""
ENCODERS = (IMAGE, TEXT)


@dataclass(frozen=True)
class Halves:
    """A model's graphs in `folder`, below a folder for each precision, and inputs of both encoders."""

    clip: ClipModel
    folder: Path
    inputs: dict[Signature, NDArray[Any]]


@pytest.fixture(scope="module", params=["tiny-vit", "tiny-resnet", "tiny-sigmoid"])
def halves(
    request: pytest.FixtureRequest,
    architectures: tuple[str, ...],
    samples: Samples,
    tmp_path_factory: pytest.TempPathFactory,
) -> Halves:
    clip = load_source(request.param).clip
    return write_halves(clip, samples, tmp_path_factory.mktemp(request.param))


def write_halves(
    clip: ClipModel,
    samples: Samples,
    folder: Path,
    signatures: Sequence[Signature] = ENCODERS,
    precisions: Sequence[Rounded] = ("fp16", "bf16"),
) -> Halves:
    encoders = {IMAGE: (ImageEncoder, example_pixels), TEXT: (TextEncoder, example_tokens)}
    for name in ("fp32", *precisions):
        (folder / name).mkdir()
    for signature in signatures:
        make, example = encoders[signature]
        source = folder / "fp32" / signature.file
        write_onnx(make(clip), example(clip), source, signature)
        for precision in precisions:
            write_precision(precision, source, folder / precision / signature.file, signature)
    tokenizer = Tokenizer(clip.tokenizer_json, clip.text)
    inputs = {IMAGE: sample_pixels(samples, clip.pixels), TEXT: sample_tokens(samples, tokenizer)}
    return Halves(clip, folder, inputs)


def torch_in_16_bits(clip: ClipModel, signature: Signature, inputs: NDArray[Any], dtype: torch.dtype) -> Any:
    """Torch's own embeddings with weights and activations in `dtype`, as a user's `module.half()` gives them."""
    module: Any = deepcopy(clip.module).to(dtype).eval()
    with torch.no_grad():
        if signature is TEXT:
            rows = module.encode_text(torch.from_numpy(inputs))
        else:
            mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (clip.mean, clip.std))
            images = (torch.from_numpy(inputs).permute(0, 3, 1, 2).float() / 255 - mean) / std
            rows = module.encode_image(images.to(dtype))
        return F.normalize(rows.float(), dim=-1).numpy()


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("signature", ENCODERS, ids=["image", "text"])
def test_emulation_equals_torch_to_the_types_own_rounding(
    halves: Halves, precision: Rounded, dtype: torch.dtype, signature: Signature
) -> None:
    inputs = halves.inputs[signature]
    exact = open_encoder(halves.folder / "fp32" / signature.file, signature)(inputs)
    found = open_rounded(halves.folder / precision / signature.file, signature, precision)[0](inputs)
    expected = torch_in_16_bits(halves.clip, signature, inputs, dtype)
    own_rounding = max_abs_difference(exact, expected)
    assert own_rounding > 1e-5
    assert max_abs_difference(expected, found) <= 2 * own_rounding
    assert 0.2 * own_rounding <= max_abs_difference(exact, found) <= 2 * own_rounding
    if halves.clip.model_name != "tiny-resnet":  # its random pictures' embeddings are all alike
        assert centred_cosines(expected, found).min() > (0.9999 if precision == "fp16" else 0.99)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("signature", ENCODERS, ids=["image", "text"])
def test_no_level_of_optimisation_kills_the_process(halves: Halves, signature: Signature, level: str) -> None:
    command = [sys.executable, "-P", "-c", RUN, str(halves.folder / "fp16" / signature.file), level]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_bf16_is_computed_only_where_cuda_has_kernels(halves: Halves) -> None:
    seen = set()
    for signature in ENCODERS:
        model = onnx.shape_inference.infer_shapes(onnx.load(halves.folder / "bf16" / signature.file))
        found = {value.name for value in model.graph.value_info if _is_bf16(value)}
        found |= {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.BFLOAT16}
        seen |= {node.op_type for node in model.graph.node if found & {*node.input, *node.output}}
    assert {"MatMul", "Conv", "Cast"} <= seen <= BF16_OPS
    assert not {kind for kind in seen if kind.startswith("Reduce") or kind.endswith("Pool")}


def test_a_mask_stays_finite_and_below_every_score(halves: Halves) -> None:
    if halves.clip.model_name == "tiny-sigmoid":
        pytest.skip("its text tower has no mask")
    model = onnx.load(halves.folder / "fp16" / TEXT.file)
    lowest = [numpy_helper.to_array(tensor).min() for tensor in model.graph.initializer if _is_mask(tensor)]
    assert lowest == [MASK]


@contextmanager
def larger(parameter: torch.Tensor, factor: float) -> Iterator[None]:
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.mul_(factor)
    yield
    with torch.no_grad():
        parameter.copy_(before)


PLANTS = {
    "text, residual": (TEXT, "transformer.resblocks.0.mlp.c_proj.weight", 3e6),
    "text, weight": (TEXT, "transformer.resblocks.0.attn.in_proj_weight", 1e7),
    "text, positions": (TEXT, "positional_embedding", 1e8),
    "image, patches": (IMAGE, "visual.conv1.weight", 1e6),
    "image, residual": (IMAGE, "visual.transformer.resblocks.0.mlp.c_fc.weight", 2e5),
}


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_overflow_is_found_wherever_torch_finds_it(
    architectures: tuple[str, ...], samples: Samples, tmp_path: Path, plant: str
) -> None:
    signature, name, factor = PLANTS[plant]
    clip = load_source("tiny-vit").clip
    clip = replace(clip, module=deepcopy(clip.module))
    with larger(clip.module.get_parameter(name), factor):
        halves = write_halves(clip, samples, tmp_path, [signature], ["fp16"])
        path, inputs = halves.folder / "fp16" / signature.file, halves.inputs[signature]
        expected = np.isfinite(torch_in_16_bits(clip, signature, inputs, torch.float16)).all(axis=1)
    assert not expected.all(), "the plant is none"
    assert np.isfinite(open_encoder(halves.folder / "fp32" / signature.file, signature)(inputs)).all()
    encode, measure = open_rounded(path, signature, "fp16")
    assert np.array_equal(np.isfinite(encode(inputs)).all(axis=1), expected)
    assert infinite_weights(path) or max(found.largest for found in measure(inputs).values()) > 65504


def test_numbers_round_as_float16_does(tmp_path: Path) -> None:
    """Ties to even, subnormals, and infinity from 65,520 on; the ranges are those before rounding."""
    values = np.array([1 + 2**-11, 1 + 3 * 2**-11, 65519, 65520, -70000, 2**-25, 3e-8, 1e-7, 0.1], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    path = tmp_path / "graph.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10), path)
    encode, measure = open_rounded(path, Signature("graph.onnx", "x", "y"), "fp16")
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    assert np.isinf(expected).sum() == 2
    assert np.array_equal(encode(values), expected)
    assert measure(values)["half"].largest == 70000
    tiny = np.full(4, 4e-8, np.float32)
    assert measure(tiny)["half"].rounding == pytest.approx((6e-8 - 4e-8) / 4e-8, rel=0.02)


@pytest.mark.parametrize(("kind", "domain"), [("Gelu", "com.microsoft"), ("If", "")])
def test_operators_whose_results_have_no_known_type_are_refused(tmp_path: Path, kind: str, domain: str) -> None:
    """Behind them nothing would be rounded, and 1e6 in fp16 was finite."""
    branch = helper.make_graph(
        [helper.make_node("Identity", ["half"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT16, ["n"])],
    )
    nodes = {
        "Gelu": helper.make_node("Gelu", ["half"], ["large"], domain="com.microsoft"),
        "If": helper.make_node("If", ["yes"], ["large"], then_branch=branch, else_branch=branch),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
            nodes[kind],
            helper.make_node("Mul", ["large", "large"], ["square"]),
            helper.make_node("Cast", ["square"], ["y"], to=TensorProto.FLOAT),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("yes", TensorProto.BOOL, [], [True])],
    )
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "graph.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    with pytest.raises(ModelError, match=rf"^graph.onnx: the types behind its operator {domain}.?{kind} are not"):
        open_rounded(path, Signature("graph.onnx", "x", "y"), "fp16")


def test_weights_beside_the_graph_are_read(halves: Halves, tmp_path: Path) -> None:
    source, target = halves.folder / "fp32" / TEXT.file, tmp_path / TEXT.file
    write_precision("fp16", source, target, TEXT, max_embedded_bytes=1000)
    assert {path.name for path in tmp_path.iterdir()} == {TEXT.file, f"{TEXT.file}.data"}
    inputs = halves.inputs[TEXT]
    expected = open_rounded(halves.folder / "fp16" / TEXT.file, TEXT, "fp16")[0](inputs)
    assert np.array_equal(open_rounded(target, TEXT, "fp16")[0](inputs), expected)


def test_the_emulated_graph_is_deleted(halves: Halves) -> None:
    with emulated(halves.folder / "fp16" / TEXT.file, "fp16") as (file, outputs):
        onnx.checker.check_model(str(file), full_check=True)
        assert len(outputs) > 10
    assert not file.exists()


def test_a_transpose_behind_a_product_gives_the_same(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            helper.make_node("MatMul", ["t", "w"], ["y"]),
            helper.make_node("Transpose", ["x"], ["u"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["u", "v"], ["z"]),
            helper.make_node("Transpose", ["w"], ["back"], perm=[1, 0]),
            helper.make_node("Transpose", ["back"], ["again"], perm=[1, 0]),
            helper.make_node("MatMul", ["t", "again"], ["same"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 2, 5]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 4, 2]),
            helper.make_tensor_value_info("same", TensorProto.FLOAT, [3, 2, 5]),
        ],
        [weight, numpy_helper.from_array(np.ones((3, 2), np.float32), "v")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    feed = {"x": np.arange(24, dtype=np.float32).reshape(2, 3, 4)}
    before = ReferenceEvaluator(model).run(None, feed)
    model = onnx.shape_inference.infer_shapes(model)
    transpose_after_products(model.graph)
    onnx.checker.check_model(model, full_check=True)
    read = {name for node in model.graph.node for name in node.input}
    assert "t" not in read, "neither before a constant nor before another matrix"
    assert "u" in read, "its last axis moves"
    for expected, found in zip(before, ReferenceEvaluator(model).run(None, feed), strict=True):
        assert np.array_equal(expected, found)


def test_a_machine_without_gpu_takes_the_cpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert find_device() == "cpu"


def _is_bf16(value: Any) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.BFLOAT16)


def _is_mask(tensor: Any) -> bool:
    values = numpy_helper.to_array(tensor)
    return values.dtype == np.float16 and values.ndim >= 2 and bool(np.isin(values, [0, values.min()]).all())

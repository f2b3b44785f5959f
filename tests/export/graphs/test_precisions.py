"""The other precisions: made from the float32 graph, each with a verdict of its own, left out where it fails."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from tiny_training import draw_picture

import export.engine_graphs
from export.artifact import export_artifact
from export.engines import open_engine
from export.graphs.precision import CALIBRATED, check_precisions, write_precision
from export.graphs.rounded import open_rounded
from export.graphs.runtime import Encoders, open_encoder
from export.graphs.speeds import Speeds, measure_speeds
from export.graphs.to_onnx import IMAGE, TEXT
from export.parity.compare import max_abs_difference
from export.parity.gates import GATES
from export.parity.samples import Samples, pick_calibration, pick_samples
from export.verify_artifact import verify_artifact
from protoclip.contract.errors import ConfigError, DataError, ModelError
from protoclip.contract.files import sha256_file
from protoclip.contract.manifest import Manifest, Precision, load_manifest, manifest_files
from protoclip.contract.text import Tokenizer
from protoclip.sources import Pairs

pytestmark = pytest.mark.usefixtures("traced_once")

OTHERS: tuple[Precision, ...] = ("fp16", "bf16", "int8", "int8_static")
LOW_OPS = ("Softmax", "LayerNormalization", "ReduceL2", "Div")


@pytest.fixture(scope="module")
def calibration(samples: Samples) -> Samples:
    return Samples(samples.pictures[::-1], samples.texts[::-1], "drawings")


@pytest.fixture(scope="module")
def all_precisions(
    exported_vit: Any,
    samples: Samples,
    calibration: Samples,
    tmp_path_factory: pytest.TempPathFactory,
    traces: Any,
) -> tuple[Path, Manifest]:
    """Shared by the tests: nobody may write into the folder."""
    folder = tmp_path_factory.mktemp("precisions") / "artifact"
    options = {"calibration": calibration, "random_weights": True, "allow_inaccurate": True}
    with traces():
        manifest = export_artifact(exported_vit.clip, folder, "tiny", samples, precisions=OTHERS, **options)
    return folder, manifest


def test_every_precision_is_an_engine(all_precisions: tuple[Path, Manifest], exported_vit: Any) -> None:
    folder, manifest = all_precisions
    assert [engine.name for engine in manifest.engines] == ["onnx_fp32", *(f"onnx_{name}" for name in OTHERS)]
    assert all(sha256_file(folder / file) == sha for file, sha in manifest_files(manifest).items())
    assert len(manifest_files(manifest)) == 1 + 2 * (1 + len(OTHERS))
    measured = {engine.precision for engine in manifest.engines if engine.pictures_per_s}
    assert measured == {"fp32", "int8", "int8_static"}, "what is emulated here has no speed"
    assert manifest.engine.verdict.passed
    plain = load_manifest(exported_vit.folder)
    assert manifest.engine_named("onnx_fp32").image_encoder.sha256 == plain.engine.image_encoder.sha256


@pytest.mark.parametrize("precision", OTHERS)
def test_errors_are_of_the_size_that_the_precision_has(
    all_precisions: tuple[Path, Manifest], precision: Precision
) -> None:
    report = json.loads((all_precisions[0] / "verdict.json").read_text())
    engine = next(engine for engine in report["engines"] if engine["precision"] == precision)
    for encoder in ("image", "text"):
        found = engine[encoder]["by_batch_size"]["8"]
        assert found["finite"]
        assert 1e-6 < found["max_abs_difference"] < (0.02 if precision in ("fp16", "bf16") else 0.2)


@pytest.mark.parametrize("precision", OTHERS)
def test_the_signature_and_what_is_said_inside_stay(
    all_precisions: tuple[Path, Manifest], precision: Precision
) -> None:
    folder, manifest = all_precisions
    for file in ("image.onnx", "text.onnx"):
        plain = onnx.load(folder / "onnx_fp32" / file)
        model = onnx.load(folder / f"onnx_{precision}" / file)
        assert _signature(model) == _signature(plain)
        assert model.ir_version <= 10
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert metadata["precision"] == precision
        assert metadata["fingerprint"] == manifest.fingerprint
        assert metadata["producer"].startswith("protoclip ")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_softmax_layer_norm_and_the_last_norm_stay_float32(
    all_precisions: tuple[Path, Manifest], precision: str
) -> None:
    half = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[precision]
    seen: Counter[str] = Counter()
    for file in ("image.onnx", "text.onnx"):
        model = onnx.shape_inference.infer_shapes(onnx.load(all_precisions[0] / f"onnx_{precision}" / file))
        types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
        types |= {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
        types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        for node in model.graph.node:
            expected = onnx.TensorProto.FLOAT if node.op_type in LOW_OPS else half
            if node.op_type in (*LOW_OPS, "MatMul", "Gemm", "Conv"):
                assert types[node.output[0]] == expected, node.name
                assert types[node.input[0]] == expected, node.name
                seen[node.op_type] += 1
    assert {*LOW_OPS, "MatMul", "Gemm", "Conv"} <= set(seen)


def test_int8_static_is_symmetric_pairs_and_no_quantized_bias(all_precisions: tuple[Path, Manifest]) -> None:
    for file in ("image.onnx", "text.onnx"):
        model = onnx.load(all_precisions[0] / "onnx_int8_static" / file)
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        kinds = Counter(node.op_type for node in model.graph.node)
        assert kinds["QuantizeLinear"]
        assert not {kind for kind in kinds if kind.endswith("Integer") or kind.startswith("QLinear")}
        for node in model.graph.node:
            if node.op_type == "DequantizeLinear":
                assert not constants[node.input[2]].any()
                assert constants.get(node.input[0], np.zeros(1, np.int8)).dtype == np.int8


def test_fp8_is_pairs_of_eight_bits_and_float16_around_them(
    exported_vit: Any, samples: Samples, tmp_path: Path
) -> None:
    tokens = Tokenizer(exported_vit.clip.tokenizer_json, exported_vit.clip.text).encode(samples.texts)
    source, target = exported_vit.folder / "onnx_fp32" / "text.onnx", tmp_path / "text.onnx"
    before = sha256_file(source)
    write_precision("fp8", source, target, TEXT, tokens)
    assert sha256_file(source) == before, "ModelOpt changes what it reads"
    assert list(tmp_path.iterdir()) == [target]
    model = onnx.load(target)
    assert _signature(model) == _signature(onnx.load(source))
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    points = {kinds[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert points == {onnx.TensorProto.FLOAT8E4M3FN}
    expected = open_encoder(source, TEXT)(tokens)
    found = open_encoder(target, TEXT, "fp8")(tokens)
    assert 1e-5 < max_abs_difference(expected, found) < 0.2
    encode, measure = open_rounded(target, TEXT, "fp16")
    assert 1e-5 < max_abs_difference(expected, encode(tokens)) < 0.2
    assert max(found.largest for found in measure(tokens).values()) < 20000, "the mask is far from half's end"


def test_a_precision_that_fails_is_left_out_unless_allowed(
    exported_vit: Any, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, lambda encode: lambda batch: np.roll(encode(batch), 1, axis=0))
    manifest = export_artifact(exported_vit.clip, tmp_path / "a", "tiny", samples, precisions=["int8"])
    assert [engine.name for engine in manifest.engines] == ["onnx_fp32"]
    assert not (tmp_path / "a" / "onnx_int8").exists()
    report = json.loads((tmp_path / "a" / "verdict.json").read_text())
    assert [engine["passed"] for engine in report["engines"]] == [True, False]
    manifest = export_artifact(
        exported_vit.clip, tmp_path / "a", "tiny", samples, precisions=["int8"], allow_inaccurate=True
    )
    assert [engine.verdict.passed for engine in manifest.engines] == [True, False]
    assert manifest.default_engine == "onnx_fp32"
    assert (tmp_path / "a" / "onnx_int8" / "image.onnx").is_file()


def test_nan_is_left_out_even_where_inaccuracy_is_allowed(
    exported_vit: Any, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, lambda encode: lambda batch: encode(batch) * np.nan)
    manifest = export_artifact(
        exported_vit.clip, tmp_path / "a", "tiny", samples, precisions=["int8"], allow_inaccurate=True
    )
    assert [engine.name for engine in manifest.engines] == ["onnx_fp32"]


def test_weights_beside_the_graph_are_in_the_manifest(
    exported_vit: Any, samples: Samples, calibration: Samples, tmp_path: Path
) -> None:
    manifest = export_artifact(
        exported_vit.clip,
        tmp_path / "large",
        "tiny",
        samples,
        precisions=["fp16", "int8", "int8_static"],
        calibration=calibration,
        max_embedded_bytes=1000,
        allow_inaccurate=True,
    )
    for engine in manifest.engines:
        assert engine.text_encoder.data_file == f"{engine.name}/text.onnx.data"
        names = sorted(path.name for path in (tmp_path / "large" / engine.name).iterdir())
        assert names == ["image.onnx", "image.onnx.data", "text.onnx", "text.onnx.data"]
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "large", moved)
    report = verify_artifact(moved, exported_vit.clip, samples)
    assert [engine.finite for engine in report.engines] == [True] * 4
    assert report.engines[0].passed
    (moved / "onnx_int8" / "text.onnx.data").write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"onnx_int8/text\.onnx\.data: missing, or not the file"):
        verify_artifact(moved, exported_vit.clip, samples)


def test_precisions_are_checked_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_precisions([]) == ("fp32",)
    assert check_precisions(["int8", "fp16", "int8", "fp32"]) == ("fp32", "fp16", "int8")
    with pytest.raises(ConfigError, match="precision 'int4' is unknown: use fp32, fp16"):
        check_precisions(["int4"])
    with pytest.raises(ConfigError, match=r"int8_static at opset 21: .*: use --opset 20 or lower"):
        check_precisions(["int8_static"], 21)
    assert check_precisions(["int8_static"], 20) == ("fp32", "int8_static")
    monkeypatch.setattr("export.graphs.precision.find_spec", lambda name: None)
    assert check_precisions(["int8", "int8_static"]) == ("fp32", "int8", "int8_static")
    for name in ("fp16", "bf16", "fp8"):
        with pytest.raises(
            ConfigError, match=rf"{name} needs the package nvidia-modelopt: pip install .*\[quantize\]"
        ):
            check_precisions([name])


@pytest.mark.parametrize("precision", CALIBRATED)
def test_calibration_needs_something_to_calibrate_on(
    exported_vit: Any, tmp_path: Path, precision: Precision
) -> None:
    source = exported_vit.folder / "onnx_fp32" / "text.onnx"
    with pytest.raises(ConfigError, match=f"precision {precision} is calibrated on pictures and texts"):
        write_precision(precision, source, tmp_path / "text.onnx", TEXT)


def test_what_a_tool_refuses_is_one_line(tmp_path: Path) -> None:
    node = onnx.helper.make_node("MatMul", ["pixels", "nowhere"], ["image_embedding"])
    pixels = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["batch", 4])
    output = onnx.helper.make_tensor_value_info("image_embedding", onnx.TensorProto.FLOAT, ["batch", 4])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [pixels], [output])), tmp_path / "x.onnx")
    with pytest.raises(ModelError, match=r"image\.onnx: can't be brought to int8_static: ") as caught:
        write_precision(
            "int8_static", tmp_path / "x.onnx", tmp_path / "y.onnx", IMAGE, np.zeros((2, 4), dtype=np.float32)
        )
    assert "\n" not in str(caught.value)


def test_calibration_pairs_are_none_of_the_compared() -> None:
    pictures = [draw_picture(colour, "disc", seed) for colour in ("red", "blue", "green") for seed in range(40)]
    pictures = list(dict.fromkeys(pictures))[:60]
    pairs = Pairs(pictures, tuple((f"text {n}",) for n in range(60)), {})
    compared = pick_samples(pairs, "shop.csv", count=30)
    calibration = pick_calibration(pairs, "shop.csv", count=20, compared=30)
    assert len(calibration.texts) == len(set(calibration.texts)) == 20
    assert not set(compared.texts) & set(calibration.texts)
    assert not set(compared.pictures) & set(calibration.pictures)
    with pytest.raises(DataError, match=r"shop\.csv: calibration needs 31 pairs beside the 30 .* there are 30"):
        pick_calibration(pairs, "shop.csv", count=31, compared=30)


def test_every_precision_has_a_gate() -> None:
    assert set(GATES) == set(get_args(Precision))
    assert {GATES[name].min_centred_cosine for name in ("fp16", "bf16")} == {0.999}
    assert {GATES[name].min_centred_cosine for name in ("int8", "int8_static", "fp8")} == {0.98}


def test_throughput_is_a_number_of_pictures() -> None:
    seen = []

    def slow(batch: Any) -> Any:
        time.sleep(0.05)
        return batch

    def quick(batch: Any) -> Any:
        seen.append(len(batch))
        return batch

    found = measure_speeds({"slow": slow, "quick": quick}, np.zeros((20, 2, 2, 3), dtype=np.uint8))
    assert set(seen) == {8}
    speeds = found.pictures_per_s
    assert 8 < speeds["slow"] <= 160 < speeds["quick"]
    assert found.others_cores is None or found.others_cores >= 0


def test_a_busy_machine_is_said() -> None:
    assert "in turns" in Speeds({}, None).described
    assert "other programs" not in Speeds({}, 0.0).described
    assert "other programs took 99.0 of" in Speeds({}, 99.0).described


def _signature(model: Any) -> list[tuple[str, int, list[Any]]]:
    found = []
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.tensor_type
        found.append((value.name, kind.elem_type, [dim.dim_param or dim.dim_value for dim in kind.shape.dim]))
    return found


def _spoil(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Any], Any]) -> None:
    """Has int8 engines answer wrongly."""

    def opened(folder: Path, precision: Precision) -> Encoders:
        encoders = open_engine(folder, precision)
        if precision == "fp32":
            return encoders
        return Encoders(spoil(encoders.image), encoders.text, encoders.backend, encoders.native)

    monkeypatch.setattr(export.engine_graphs, "open_engine", opened)

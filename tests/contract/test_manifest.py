"""The artifact's manifest: what it refuses, and that nothing is lost on the way through JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from protoclip.contract.errors import ModelError
from protoclip.contract.manifest import (
    MANIFEST_FILE,
    BatchProfile,
    Engine,
    EngineBuild,
    Manifest,
    Precision,
    load_manifest,
    manifest_files,
)
from protoclip.contract.pixels import PixelSpec
from protoclip.contract.speed_margin import BITS, fastest_engine, worth_serving
from protoclip.contract.text import TextSpec

ENGINE: dict[str, Any] = {
    "name": "onnx_fp32",
    "format": "onnx",
    "precision": "fp32",
    "image_encoder": {
        "file": "image.onnx",
        "sha256": "1" * 64,
        "input_name": "pixels",
        "output_name": "image_embedding",
    },
    "text_encoder": {
        "file": "onnx/text.onnx",
        "sha256": "2" * 64,
        "input_name": "tokens",
        "output_name": "text_embedding",
    },
    "verdict": {
        "passed": True,
        "max_abs_difference": 1.2345678901234567e-7,
        "min_cosine": 0.9999999,
        "num_images": 256,
        "num_texts": 256,
        "report_file": "verdict.json",
    },
}
FIELDS: dict[str, Any] = {
    "name": "emoji",
    "fingerprint": "ab12cd" + "0" * 58,
    "source": "a run",
    "embedding_dim": 256,
    "pixels": PixelSpec(64, 48, "longest", "bilinear", (1, 2, 3), (4, 5, 6), 1000, 2000),
    "mean": (0.1, 0.2, 0.3),
    "std": (0.4, 0.5, 0.6),
    "text": TextSpec(32, "canonicalize", "words"),
    "tokenizer_sha256": "0" * 64,
    "engines": [ENGINE],
    "default_engine": "onnx_fp32",
    "temperature": 14.285714285714286,
    "logit_bias": -10.0,
    "opset": 18,
    "ir_version": 10,
    "versions": {"onnx": "1.23.2"},
    "created_at": "2026-11-22T00:00:00Z",
}


def changed(**fields: Any) -> dict[str, Any]:
    return json.loads(Manifest(**FIELDS).model_dump_json()) | fields


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    manifest = Manifest(**FIELDS)
    manifest.save(tmp_path)
    loaded = load_manifest(tmp_path)
    assert loaded == manifest
    assert loaded.pixels == FIELDS["pixels"]
    assert isinstance(loaded.pixels.fill, tuple)
    assert loaded.text == FIELDS["text"]
    assert loaded.engine.verdict.max_abs_difference == 1.2345678901234567e-7


@pytest.mark.parametrize(("bias", "kind"), [(None, "softmax"), (-10.0, "sigmoid"), (0.0, "sigmoid")])
def test_a_manifest_of_an_earlier_version_derives_probabilities_from_the_bias(
    tmp_path: Path, bias: float | None, kind: str
) -> None:
    fields = changed(logit_bias=bias)
    del fields["probabilities"]
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(fields))
    assert load_manifest(tmp_path).probabilities == kind


def test_a_sigmoid_needs_a_bias(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(changed(logit_bias=None)))
    with pytest.raises(ModelError, match="probabilities is sigmoid, which needs a logit_bias"):
        load_manifest(tmp_path)


def test_names_of_the_served_models() -> None:
    manifest = Manifest(**FIELDS)
    assert manifest.model_name("image") == "emoji_ab12cd_image"
    assert manifest.model_name("text_preprocess") == "emoji_ab12cd_text_preprocess"
    assert manifest.model_name("image", manifest.default_engine) == "emoji_ab12cd_image"
    assert manifest.model_name("image", "onnx_other") == "emoji_ab12cd_onnx_other_image"


def test_a_manifest_is_never_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Manifest(**FIELDS).temperature = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema_version", 1),
        ("engines", []),
        ("engines", [ENGINE | {"precision": "fp4"}]),
        ("engines", [ENGINE | {"format": "coreml"}]),
        ("engines", [ENGINE | {"inference_precision": "bf16"}]),
        ("engines", [ENGINE | {"format": "openvino"}]),
        ("engines", [ENGINE | {"format": "openvino", "inference_precision": "bf16"}]),
        ("engines", [ENGINE | {"format": "openvino", "precision": "int8", "inference_precision": "f32"}]),
        ("engines", [ENGINE | {"format": "openvino", "precision": "int8"}]),
        ("engines", [ENGINE | {"name": "../onnx"}]),
        ("name", "Emoji"),
        ("name", "e" * 42),
        ("name", "../etc"),
        ("fingerprint", "ab12c"),
        ("fingerprint", "xyz123"),
        ("embedding_dim", 0),
        ("temperature", 0.0),
        ("temperature", "NaN"),
        ("logit_bias", "Infinity"),
        ("probabilities", "softplus"),
        ("tokenizer_sha256", "0" * 63),
        ("tokenizer_file", "/etc/passwd"),
        ("tokenizer_file", "../tokenizer.json"),
        ("tokenizer_file", "a/../../b"),
        ("tokenizer_file", ""),
        ("mean", [0.5, 0.5]),
        ("unknown", 1),
        ("pixels", {"height": 0, "width": 1}),
        ("pixels", {"height": 1, "width": 1, "resize": "zoom"}),
        ("pixels", {"height": 1, "width": 1, "from_a_later_version": 1}),
        ("text", {"context_length": 0}),
        ("text", {"context_length": 77, "cleaner": "soap"}),
        ("text", {"context_length": 77, "from_a_later_version": 1}),
    ],
)
def test_wrong_fields_are_named(tmp_path: Path, field: str, value: object) -> None:
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(changed(**{field: value})))
    with pytest.raises(ModelError, match=rf"manifest\.json: field '{field}") as caught:
        load_manifest(tmp_path)
    assert "\n" not in str(caught.value)
    assert "export the model again" in str(caught.value)


def test_missing_field(tmp_path: Path) -> None:
    fields = changed()
    del fields["engines"][0]["verdict"]["passed"]
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(fields))
    with pytest.raises(ModelError, match=r"field 'engines\.0\.verdict\.passed': Field required"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
def test_no_manifest_at_all(tmp_path: Path, data: bytes) -> None:
    (tmp_path / MANIFEST_FILE).write_bytes(data)
    with pytest.raises(ModelError, match=r"manifest\.json: the whole of it: ") as caught:
        load_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no manifest\.json here: name a folder that `protoclip export`"):
        load_manifest(tmp_path)


def test_failing_save_leaves_the_old_one(tmp_path: Path) -> None:
    Manifest(**FIELDS).save(tmp_path)
    before = (tmp_path / MANIFEST_FILE).read_bytes()
    unwritable = Manifest(**{**FIELDS, "source": "half a pair \ud800"})
    with pytest.raises(ValueError, match=r"surrogate|utf-8"):
        unwritable.save(tmp_path)
    assert (tmp_path / MANIFEST_FILE).read_bytes() == before


def test_an_artifact_of_the_first_schema_is_to_be_exported_again(tmp_path: Path) -> None:
    old = changed(schema_version=1, precision="fp32", verdict=ENGINE["verdict"])
    old |= {key: ENGINE[key] for key in ("image_encoder", "text_encoder")}
    del old["engines"], old["default_engine"]
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(old))
    with pytest.raises(ModelError, match=r"field 'schema_version': Input should be 2: export the model again$"):
        load_manifest(tmp_path)


def test_the_default_engine_and_the_others_have_names() -> None:
    int8 = ENGINE | {"name": "onnx_int8", "precision": "int8"}
    manifest = Manifest(**FIELDS | {"engines": [ENGINE, int8], "default_engine": "onnx_int8"})
    assert manifest.engine.precision == "int8"
    assert manifest.engine_named("onnx_fp32").precision == "fp32"
    with pytest.raises(ModelError, match="no engine 'trt' in this artifact: it has onnx_fp32, onnx_int8"):
        manifest.engine_named("trt")
    with pytest.raises(ValidationError, match="two engines have one name"):
        Manifest(**FIELDS | {"engines": [ENGINE, ENGINE]})
    other = int8 | {"image_encoder": ENGINE["image_encoder"] | {"sha256": "9" * 64}}
    with pytest.raises(ValidationError, match=r"two entries give image\.onnx another SHA-256 each"):
        Manifest(**FIELDS | {"engines": [ENGINE, other]})
    with pytest.raises(ValidationError, match="default_engine 'trt' is none of onnx_fp32"):
        Manifest(**FIELDS | {"default_engine": "trt"})


def test_large_weights_are_vouched_for_and_stay_beside_their_graph() -> None:
    encoder = ENGINE["text_encoder"] | {"data_file": "onnx/text.onnx.data", "data_sha256": "3" * 64}
    files = manifest_files(Manifest(**FIELDS | {"engines": [ENGINE | {"text_encoder": encoder}]}))
    assert files == {
        "tokenizer.json": "0" * 64,
        "image.onnx": "1" * 64,
        "onnx/text.onnx": "2" * 64,
        "onnx/text.onnx.data": "3" * 64,
    }
    for wrong, reason in (
        ({"data_sha256": None}, "belong together"),
        ({"data_file": "x.data"}, "in the folder of"),
    ):
        with pytest.raises(ValidationError, match=reason):
            Manifest(**FIELDS | {"engines": [ENGINE | {"text_encoder": encoder | wrong}]})


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [
        ({"onnx_int8": None, "onnx_fp32": None}, "onnx_fp32"),
        ({"onnx_int8": 30.0, "onnx_fp32": 20.0}, "onnx_int8"),
        ({"onnx_int8": 25.9, "onnx_fp32": 20.0}, "onnx_fp32"),
        ({"onnx_int8": 26.0, "onnx_fp32": 20.0}, "onnx_int8"),
        ({"onnx_int8": 50.0, "onnx_bf16": 40.0, "onnx_fp32": 20.0}, "onnx_bf16"),
        ({"onnx_int8": 27.0, "onnx_bf16": 24.0, "onnx_fp32": 20.0}, "onnx_int8"),
        ({"onnx_int8": 10.0, "onnx_fp32": 20.0}, "onnx_fp32"),
        ({"onnx_int8": None, "onnx_fp32": 20.0, "failed": 50.0}, "onnx_fp32"),
        ({"onnx_int8": None}, "onnx_int8"),
    ],
)
def test_the_fastest_that_passed_is_the_default(speeds: dict[str, float | None], chosen: str) -> None:
    engines = [
        Engine(
            **ENGINE
            | {
                "name": name,
                "pictures_per_s": speed,
                "precision": {"onnx_fp32": "fp32", "onnx_bf16": "bf16"}.get(name, "int8"),
                "verdict": ENGINE["verdict"] | {"passed": name != "failed"},
            }
        )
        for name, speed in speeds.items()
    ]
    assert fastest_engine(engines) == chosen


def test_every_precision_has_a_number_of_bits_and_what_is_not_checked_is_no_default() -> None:
    assert set(BITS) == set(get_args(Precision))
    assert worth_serving({}) is None
    fast = Engine(**ENGINE | {"name": "onnx_fp16", "precision": "fp16", "pictures_per_s": 90.0})
    open_question = fast.verdict.model_copy(update={"not_checked": ("range on a GPU: needs one",)})
    plain = Engine(**ENGINE | {"pictures_per_s": 20.0})
    assert fastest_engine([plain, fast]) == "onnx_fp16"
    assert fastest_engine([plain, fast.model_copy(update={"verdict": open_question})]) == "onnx_fp32"


@pytest.mark.parametrize(
    ("precision", "speed", "chosen"),
    [
        ("fp32", 25.9, "onnx_fp32"),
        ("fp32", 26.0, "openvino"),
        ("bf16", 25.9, "onnx_fp32"),
        ("bf16", 40.7, "openvino"),
        ("int8_static", 70.0, "openvino"),
    ],
)
def test_openvino_is_the_default_only_where_it_is_worth_a_package_more(
    precision: str, speed: float, chosen: str
) -> None:
    onnx = Engine(**ENGINE | {"pictures_per_s": 20.0})
    computed = {"inference_precision": "bf16" if precision == "bf16" else "f32"}
    own = {"name": "openvino", "format": "openvino", "precision": precision, "pictures_per_s": speed}
    engine = Engine(**ENGINE | own | computed)
    assert fastest_engine([engine, onnx]) == chosen
    int8 = Engine(**ENGINE | {"name": "onnx_int8", "precision": "int8", "pictures_per_s": 64.3})
    assert fastest_engine([engine, onnx, int8]) == "onnx_int8"


@pytest.mark.parametrize(("form", "chosen"), [("tensorrt", "plan"), ("tensorrt_rtx", "onnx_fp32")])
def test_a_plan_is_the_default_only_where_it_passed_and_triton_loads_it(form: str, chosen: str) -> None:
    onnx = Engine(**ENGINE | {"pictures_per_s": 20.0})
    plan = Engine(**ENGINE | {"name": "plan", "format": form, "pictures_per_s": 90.0})
    unseen = plan.model_copy(update={"verdict": plan.verdict.model_copy(update={"passed": False})})
    assert fastest_engine([onnx, plan]) == chosen
    assert fastest_engine([onnx, unseen]) == "onnx_fp32"
    assert Manifest(**FIELDS | {"engines": [onnx, plan], "default_engine": "plan"}).engine == plan
    with pytest.raises(ValidationError, match="default_engine 'plan' is a plan without a verdict that it passed"):
        Manifest(**FIELDS | {"engines": [onnx, unseen], "default_engine": "plan"})


@pytest.mark.parametrize(
    ("ranges", "missing"),
    [
        ([(1, 8)], None),
        ([(2, 8), (1, 1)], None),
        ([(1, 8), (4, 32)], None),
        ([(2, 8)], 1),
        ([(4, 8), (1, 2)], 3),
    ],
)
def test_profiles_take_every_batch(ranges: list[tuple[int, int]], missing: int | None) -> None:
    facts: dict[str, Any] = {
        "builder": "tensorrt",
        "builder_version": "10.16",
        "profiles": [BatchProfile(min=low, opt=low, max=high) for low, high in ranges],
        "onnx_sha256": ("1" * 64, "2" * 64),
    }
    if missing is None:
        build = EngineBuild(**facts)
        assert (build.profile.min, build.profile.max) == (1, max(high for _, high in ranges))
        return
    with pytest.raises(ValidationError, match=f"no profile takes a batch of {missing}"):
        EngineBuild(**facts)

"""`verify` judges what is served: mistakes with consistent hashes in an artifact's tokenizer, files and fields."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from export.artifact import export_artifact
from export.listed_engines import check_graphs
from export.parity.checks import Check
from export.parity.manifest_fields import ENCODER_FIELDS, ENGINE_FIELDS, FIELDS, check_fields
from export.parity.recorded_verdicts import check_verdicts
from export.parity.report import Report
from export.parity.samples import Samples
from export.parity.served import largest_batch_check
from export.parity.tokens import check_tokens
from export.verify_artifact import verify_artifact
from protoclip.contract.errors import ModelError, VerdictError
from protoclip.contract.manifest import EncoderFile, Engine, Manifest, load_manifest
from protoclip.contract.text import TextSpec
from scripts import load_script

planted = load_script("benchmarks/planted_served.py")


def altered(artifact: Path, copy: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the artifact whose manifest, as plain values, is changed by `change`."""
    shutil.copytree(artifact, copy)
    planted.in_manifest(change)(copy)
    return copy


def without_end_token(artifact: Path, copy: Path) -> Path:
    """A copy whose tokenizer.json does not end a text with the end token."""
    shutil.copytree(artifact, copy)
    planted.without_end_token(copy)
    return copy


@pytest.fixture(scope="module")
def two_engines(tiny_clip: Any, samples: Samples, tmp_path_factory: pytest.TempPathFactory, traces: Any) -> Path:
    """tiny-vit in float32 and int8; nobody may write into the folder."""
    folder = tmp_path_factory.mktemp("two_engines") / "artifact"
    with traces():
        export_artifact(tiny_clip, folder, "tiny", samples, precisions=["int8"], random_weights=True)
    return folder


def _names(checks: tuple[Check, ...] | list[Check], outcome: str = "failed") -> set[str]:
    return {check.name for check in checks if check.outcome == outcome}


def _of_engines(report: Report) -> dict[str, set[str]]:
    return {engine.name: _names(engine.checks) for engine in report.engines}


def test_nothing_is_wrong_with_a_right_export(exported: Any, samples: Samples) -> None:
    report = verify_artifact(exported.folder, exported.clip, samples)
    assert report.failures == ()
    assert {check.outcome for check in report.checks} == {"passed"}
    assert {"tokens", "temperature", "embedding_dim", "probabilities"} <= _names(report.checks, "passed")
    assert "graphs" in _names(report.engines[0].checks, "passed")


@pytest.mark.parametrize(
    ("field", "value", "names"),
    [
        ("temperature", 14.5, {"temperature"}),
        ("embedding_dim", 12, {"embedding_dim"}),
        ("mean", [0.5, 0.5, 0.5], {"mean and std"}),
        ("std", [0.5, 0.5, 0.5], {"mean and std"}),
    ],
)
def test_another_value_in_the_manifest_is_found_by_name(
    exported_vit: Any, samples: Samples, tmp_path: Path, field: str, value: object, names: set[str]
) -> None:
    wrong = altered(exported_vit.folder, tmp_path / "a", lambda values: values.update({field: value}))
    report = verify_artifact(wrong, exported_vit.clip, samples)
    assert _names(report.checks) == names
    assert not report.passed


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"logit_bias": -12.5}, "logit_bias"),
        ({"probabilities": "softmax"}, "probabilities"),
        ({"logit_bias": None, "probabilities": "softmax"}, "logit_bias"),
        ({"temperature": 5.0}, "temperature"),
    ],
)
def test_logits_of_a_sigmoid_model(exported: Any, change: dict[str, Any], name: str) -> None:
    if exported.clip.source != "tiny-sigmoid":
        assert check_fields(exported.manifest, exported.clip)[-1].outcome == "passed"
        return
    manifest = exported.manifest.model_copy(update=change)
    assert name in _names(check_fields(manifest, exported.clip))


def test_a_factor_beyond_100_is_compared_as_the_weights_have_it(exported_vit: Any) -> None:
    """It was cut to 100 in the manifest and in the description alike."""
    from copy import deepcopy

    import torch

    module = deepcopy(exported_vit.clip.module)
    module.logit_scale.data = torch.tensor(112.3).log()
    clip = replace(exported_vit.clip, module=module, temperature=100.0)
    cut = exported_vit.manifest.model_copy(update={"temperature": 100.0})
    assert _names(check_fields(cut, clip)) == {"temperature"}
    assert _names(check_fields(cut.model_copy(update={"temperature": 112.3}), clip)) == set()


@pytest.mark.parametrize(
    "change", [{"cleaner": "whitespace"}, {"cleaner": "canonicalize"}, {"special_tokens": "anywhere"}]
)
def test_another_treatment_of_texts_is_found(
    exported_vit: Any, samples: Samples, tmp_path: Path, change: dict[str, str]
) -> None:
    wrong = altered(exported_vit.folder, tmp_path / "a", lambda values: values["text"].update(change))
    assert _names(verify_artifact(wrong, exported_vit.clip, samples).checks) == {"text", "tokens"}


def test_a_tokenizer_without_its_end_token_is_found(exported_vit: Any, samples: Samples, tmp_path: Path) -> None:
    wrong = without_end_token(exported_vit.folder, tmp_path / "a")
    report = verify_artifact(wrong, exported_vit.clip, samples)
    assert _names(report.checks) == {"tokens"}
    [check] = [check for check in report.checks if check.name == "tokens"]
    assert check.explanation.startswith("the ids of ")
    assert "texts are not those of open_clip's tokenizer, of ''" in check.explanation


def test_signs_that_a_short_context_hides_are_compared(exported_vit: Any, tmp_path: Path) -> None:
    """NFKC changes "½" alone, which stands behind the sixteenth token of the text that it is in."""
    path = tmp_path / "tokenizer.json"
    values = json.loads((exported_vit.folder / path.name).read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | {"normalizer": {"type": "NFKC"}}), encoding="utf-8")
    check = check_tokens(path, exported_vit.clip.text, exported_vit.clip, ())
    assert check.outcome == "failed"
    assert check.explanation.startswith("the ids of ")


def test_a_tokenizer_that_cannot_be_read_is_found(exported_vit: Any, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    assert check_tokens(path, exported_vit.clip.text, exported_vit.clip, ()).outcome == "failed"
    of_another_length = TextSpec(8, "lower", "words")
    check = check_tokens(exported_vit.folder / "tokenizer.json", of_another_length, exported_vit.clip, ())
    assert "context_length is 8: they must be equal" in check.explanation


def test_without_a_reference_the_verdict_says_that_ids_were_not_compared(
    exported_vit: Any, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(identifier: str, **_: object) -> None:
        raise ModelError(f"model {identifier!r} needs the tokenizer some/tokenizer of the Hugging Face hub")

    monkeypatch.setattr("protoclip.encoders.reference_tokenizer.open_clip_tokenizer", missing)
    report = verify_artifact(exported_vit.folder, exported_vit.clip, samples)
    assert report.passed
    assert _names(report.checks, "not checked") == {"tokens"}
    assert "needs the tokenizer some/tokenizer of the Hugging Face hub" in report.not_checked[0]


def test_the_export_itself_refuses_a_tokenizer_that_differs(
    exported_vit: Any, samples: Samples, tmp_path: Path, traced_once: None
) -> None:
    spoilt = without_end_token(exported_vit.folder, tmp_path / "a") / "tokenizer.json"
    clip = replace(exported_vit.clip, tokenizer_json=spoilt.read_text(encoding="utf-8"))
    with pytest.raises(VerdictError, match="tokens: the ids of "):
        export_artifact(clip, tmp_path / "out", "tiny", samples, random_weights=True)
    assert not (tmp_path / "out").exists()


def _int8_for_fp32(values: dict[str, Any]) -> None:
    fp32, int8 = values["engines"]
    for encoder in ("image_encoder", "text_encoder"):
        fp32[encoder] = int8[encoder]


def _fp32_for_int8(values: dict[str, Any]) -> None:
    values["engines"][1]["image_encoder"] = values["engines"][0]["image_encoder"]


def test_an_entry_that_names_another_engines_file_is_found(
    two_engines: Path, tiny_clip: Any, samples: Samples, tmp_path: Path
) -> None:
    wrong = altered(two_engines, tmp_path / "a", _int8_for_fp32)
    found = _of_engines(verify_artifact(wrong, tiny_clip, samples))
    assert {"graphs", "image, batch 8", "text, batch 8"} <= found["onnx_fp32"]
    assert found["onnx_int8"] == set()
    wrong = altered(two_engines, tmp_path / "b", _fp32_for_int8)
    assert _of_engines(verify_artifact(wrong, tiny_clip, samples)) == {"onnx_fp32": set(), "onnx_int8": {"graphs"}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda engine: engine["image_encoder"].update(input_name="picture"), "takes ['pixels'] and gives"),
        (lambda engine: engine["text_encoder"].update(output_name="other"), "and gives ['text_embedding'], not"),
        (lambda engine: engine.update(name="onnx_fp16"), "is called onnx_fp16, and its precision's is onnx_fp32"),
    ],
)
def test_other_names_than_the_graphs_are_found(
    exported_vit: Any, samples: Samples, tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    def alter(values: dict[str, Any]) -> None:
        change(values["engines"][0])
        values["default_engine"] = values["engines"][0]["name"]

    wrong = altered(exported_vit.folder, tmp_path / "a", alter)
    [engine] = verify_artifact(wrong, exported_vit.clip, samples).engines
    assert not engine.passed
    [check] = [check for check in engine.checks if check.name == "graphs"]
    assert words in check.explanation


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"largest_batch": 4096}, "onnx_fp32: the manifest says largest_batch=4096, and verdict.json 64"),
        ({"passed": False}, "onnx_fp32: the manifest says passed=False, and verdict.json True"),
        ({"num_images": 256}, "onnx_fp32: the manifest says num_images=256, and verdict.json "),
    ],
)
def test_a_verdict_that_is_not_its_reports_is_found(
    exported_vit: Any, samples: Samples, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    wrong = altered(
        exported_vit.folder, tmp_path / "a", lambda values: values["engines"][0]["verdict"].update(change)
    )
    report = verify_artifact(wrong, exported_vit.clip, samples)
    assert _names(report.checks) == {"verdicts"}
    assert words in report.failures[0]
    (wrong / "verdict.json").unlink()
    assert check_verdicts(wrong, load_manifest(wrong)).outcome == "not checked"


@pytest.mark.parametrize(
    ("compared", "served", "outcome"),
    [
        ((64,), 64, "passed"),
        ((64,), 32, "passed"),
        ((64,), 65, "failed"),
        ((64, 4096), 64, "passed"),
        ((64, 4096), 128, "not checked"),
        ((64, 4096), 8192, "failed"),
        ((None,), 64, "not checked"),
        ((64, None), 64, "not checked"),
        ((), 64, "not checked"),
    ],
)
def test_a_server_takes_no_larger_batches_than_were_compared(
    exported_vit: Any, compared: tuple[int | None, ...], served: int, outcome: str
) -> None:
    [engine] = exported_vit.manifest.engines
    verdicts = [engine.verdict.model_copy(update={"largest_batch": size}) for size in compared]
    engines = tuple(engine.model_copy(update={"verdict": verdict}) for verdict in verdicts)
    manifest = exported_vit.manifest.model_copy(update={"engines": engines})
    model: Any = SimpleNamespace(precision="fp32", verdict="passed", max_batch_size=served)
    check = largest_batch_check(model, manifest)
    assert (check.name, check.outcome) == ("largest batch", outcome)
    if outcome == "failed":
        assert f"export again with --max-batch-size {served}" in check.explanation


@pytest.mark.parametrize("field", ["opset", "ir_version", "fingerprint"])
def test_graphs_of_another_model_or_version_are_found(exported_vit: Any, field: str) -> None:
    value = "0" * 64 if field == "fingerprint" else 9
    manifest = exported_vit.manifest.model_copy(update={field: value})
    check = check_graphs(exported_vit.folder, manifest.engine, manifest)
    assert (check.name, check.outcome) == ("graphs", "failed")


def test_pixels_that_refuse_every_picture_are_a_failure_not_a_crash(
    exported_vit: Any, samples: Samples, tmp_path: Path
) -> None:
    wrong = altered(exported_vit.folder, tmp_path / "a", lambda values: values["pixels"].update(max_bytes=10))
    report = verify_artifact(wrong, exported_vit.clip, samples)
    assert _names(report.checks) == {"pixels"}
    assert report.engines[0].not_run is not None


@pytest.mark.parametrize(
    ("model", "table"), [(Manifest, FIELDS), (Engine, ENGINE_FIELDS), (EncoderFile, ENCODER_FIELDS)]
)
def test_every_field_of_a_manifest_has_a_check_or_a_reason_why_not(model: Any, table: dict[str, str]) -> None:
    """A new field: write its check, and say here which."""
    assert set(table) == set(model.model_fields)


def test_the_checks_that_the_tables_name_are_made(exported_vit: Any, samples: Samples) -> None:
    report = verify_artifact(exported_vit.folder, exported_vit.clip, samples)
    made = {check.name for check in (*report.checks, *report.engines[0].checks)}
    for words in (*FIELDS.values(), *ENGINE_FIELDS.values(), *ENCODER_FIELDS.values()):
        if words.startswith("check"):
            assert any(name in words for name in made), words

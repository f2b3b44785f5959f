"""The artifact folder: whole, atomic, and marked where the gate refused it."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked_python
import numpy as np
import pytest
import torch

import export.engines
import export.target
from export.artifact import export_artifact
from export.golden import gate_bound
from export.graphs.encoders import ImageEncoder
from export.parity.samples import Samples
from export.target import check_name, default_name
from export.verify_artifact import verify_artifact
from protoclip import Client
from protoclip.contract.errors import ConfigError, ModelError, VerdictError
from protoclip.contract.files import sha256_file
from protoclip.contract.manifest import Manifest, load_manifest, manifest_files
from protoclip.encoders.model import ClipModel

pytestmark = pytest.mark.usefixtures("traced_once")

TINY_VIT = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 8, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}
OLD = '{"fingerprint": "ab", "engines": [], "tokenizer_sha256": "cd"}'
FILES = ["manifest.json", "onnx_fp32", "tokenizer.json", "verdict.html", "verdict.json"]


class SwapsRedAndBlue(ImageEncoder):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().forward(pixels.flip(-1))


def test_the_folder_holds_what_the_manifest_says(exported: Any) -> None:
    clip, folder = exported.clip, exported.folder
    assert sorted(path.name for path in folder.iterdir()) == FILES
    manifest = load_manifest(folder)
    assert manifest == exported.manifest
    assert {file: sha256_file(folder / file) for file in manifest_files(manifest)} == manifest_files(manifest)
    assert (manifest.pixels, manifest.text) == (clip.pixels, clip.text)
    assert (manifest.mean, manifest.std) == (clip.mean, clip.std)
    assert (manifest.embedding_dim, manifest.temperature) == (clip.embedding_dim, clip.temperature)
    assert manifest.logit_bias == clip.logit_bias
    assert (folder / "tokenizer.json").read_text(encoding="utf-8") == clip.tokenizer_json
    assert list(folder.parent.iterdir()) == [folder]


def test_verdict_file_and_manifest_agree(exported: Any) -> None:
    report = json.loads((exported.folder / "verdict.json").read_text())
    verdict = exported.manifest.engine.verdict
    assert verdict.passed
    assert report["passed"]
    assert verdict.num_images == verdict.num_texts == 20
    engine = report["engines"][0]
    found = [
        c for e in ("image", "text") for c in (*engine[e]["by_batch_size"].values(), engine[e]["adversarial"])
    ]
    assert verdict.max_abs_difference == max(c["max_abs_difference"] for c in found) <= 1e-5
    assert verdict.min_cosine == min(c["min_cosine"] for c in found)


def test_a_sigmoid_model_keeps_its_bias_and_squashes(exported: Any) -> None:
    if exported.clip.source != "tiny-sigmoid":
        assert exported.manifest.logit_bias is None
        return
    assert exported.manifest.logit_bias == -10
    assert exported.manifest.pixels.resize == "squash"


def test_a_later_check_passes_and_sees_changes(exported_vit: Any, samples: Samples, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(exported_vit.folder, copy)
    assert verify_artifact(copy, exported_vit.clip, samples).passed
    with pytest.raises(ModelError, match="other weights or settings"):
        verify_artifact(copy, replace(exported_vit.clip, mean=(0.0, 0.0, 0.0)), samples)
    with open(copy / "onnx_fp32" / "text.onnx", "ab") as stream:
        stream.write(b"x")
    with pytest.raises(ModelError, match=r"text\.onnx: missing, or not the file that was exported"):
        verify_artifact(copy, exported_vit.clip, samples)


def test_two_builds_are_compared(exported_vit: Any, samples: Samples, tmp_path: Path) -> None:
    other = tmp_path / "other"
    export_artifact(exported_vit.clip, other, "tiny", samples, opset=19, random_weights=True)
    report = verify_artifact(exported_vit.folder, exported_vit.clip, samples, against=other)
    assert report.passed
    assert report.reference == f"the engines of {other}"
    assert all(found.max_abs_difference <= 1e-6 for _, found in report.engines[0].same_inputs())
    assert report.engines[0].from_files.max_abs_difference <= 1e-6
    manifest = load_manifest(other)
    renamed = manifest.engine.model_copy(update={"name": "onnx_int8"})
    manifest.model_copy(update={"engines": (renamed,), "default_engine": "onnx_int8"}).save(other)
    with pytest.raises(ModelError, match="no engine 'onnx_fp32' in this artifact: it has onnx_int8"):
        verify_artifact(exported_vit.folder, exported_vit.clip, samples, against=other)


def test_a_refused_export_leaves_the_old_artifact_and_keeps_its_report(
    exported_vit: Any, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "emoji"
    shutil.copytree(exported_vit.folder, out)
    before = _contents(out)
    monkeypatch.setattr(export.engines, "ImageEncoder", SwapsRedAndBlue)
    with pytest.raises(VerdictError, match=r"^onnx_fp32: image, batch 1: off by .*emoji\.failed/verdict\.json"):
        export_artifact(exported_vit.clip, out, "emoji", samples)
    assert _contents(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["emoji", "emoji.failed"]
    assert not json.loads((tmp_path / "emoji.failed" / "verdict.json").read_text())["passed"]
    with pytest.raises(ModelError):
        load_manifest(tmp_path / "emoji.failed")


def test_a_failed_artifact_that_was_asked_for_is_marked(
    exported_vit: Any, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_graphs_of(exported_vit, monkeypatch)
    other = replace(exported_vit.clip, std=(0.3, 0.3, 0.3))
    manifest = export_artifact(other, tmp_path / "emoji", "emoji", samples, allow_inaccurate=True)
    assert not manifest.engine.verdict.passed
    assert manifest.engine.verdict.max_abs_difference > 1e-5
    assert load_manifest(tmp_path / "emoji") == manifest
    # Its own error excuses nothing when a server is to prove itself.
    assert manifest.golden is not None
    assert manifest.golden.bounds == {"onnx_fp32": gate_bound("fp32")}


def test_nan_is_refused_even_where_inaccuracy_is_allowed(
    exported_vit: Any, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_graphs_of(exported_vit, monkeypatch)
    module = deepcopy(exported_vit.clip.module)
    module.visual.proj.data[0, 0] = float("nan")
    broken = replace(exported_vit.clip, module=module)
    with pytest.raises(VerdictError, match="NaN or infinity"):
        export_artifact(broken, tmp_path / "emoji", "emoji", samples, allow_inaccurate=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["emoji.failed"]


@pytest.mark.parametrize(("name", "place"), [("token_embedding.weight", (49_000, 0)), ("logit_scale", ())])
def test_a_weight_that_is_no_number_is_found_though_no_sample_reads_it(
    exported_vit: Any,
    samples: Samples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    place: tuple[int, ...],
) -> None:
    _write_graphs_of(exported_vit, monkeypatch)
    module = deepcopy(exported_vit.clip.module)
    module.get_parameter(name).data[place] = float("inf")
    broken = replace(exported_vit.clip, module=module)
    with pytest.raises(VerdictError, match=rf"weights: {name}: NaN or infinity"):
        export_artifact(broken, tmp_path / "emoji", "emoji", samples, allow_inaccurate=True)
    assert not (tmp_path / "emoji").exists()


def test_a_folder_with_another_programs_manifest_stays(
    exported_vit: Any, samples: Samples, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "shop", "icons": []}')
    with pytest.raises(ConfigError, match="holds something else than an artifact"):
        export_artifact(exported_vit.clip, tmp_path, "emoji", samples)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_an_export_that_breaks_leaves_the_old_artifact(
    tiny_clip: ClipModel, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "emoji"
    out.mkdir()
    (out / "manifest.json").write_text(OLD)

    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.engines, "write_onnx", no_space)
    with pytest.raises(Exception, match="No space left on device"):
        export_artifact(tiny_clip, out, "emoji", samples)
    assert _contents(tmp_path) == {"emoji/manifest.json": OLD.encode()}


KILLED_EXPORT = """
import os, signal, sys
from pathlib import Path
from export.artifact import export_artifact
from export.graphs.source import load_source
from export.parity.samples import Samples
import open_clip

open_clip.add_model_config(Path(sys.argv[1]))

def kill(what, done, total):
    if done == 1:
        os.kill(os.getpid(), signal.SIGKILL)

clip, samples = load_source("tiny-vit").clip, Samples((b"a",), ("a",), "test")
export_artifact(clip, Path(sys.argv[2]), "emoji", samples, progress=kill)
"""


def test_a_killed_export_leaves_the_old_artifact(tmp_path: Path) -> None:
    out = tmp_path / "emoji"
    out.mkdir()
    (out / "manifest.json").write_text(OLD)
    config = tmp_path / "tiny-vit.json"
    config.write_text(json.dumps(TINY_VIT))
    script = tmp_path / "killed_export.py"
    script.write_text(KILLED_EXPORT)
    done = forked_python.run([sys.executable, str(script), str(config), str(out)])
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(tmp_path.glob(".emoji.*/emoji/onnx_fp32/image.onnx")), "killed before anything was written"
    assert _contents(out) == {"manifest.json": OLD.encode()}


@pytest.mark.parametrize("name", ["", "9lives", "Emoji", "a-b", "a" * 42, "a.b", "ü"])
def test_bad_names_are_refused_before_any_work(
    tiny_clip: ClipModel, samples: Samples, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="can't be used"):
        export_artifact(tiny_clip, tmp_path / "out", name, samples)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "source", ["ViT-B-32", "RN50-quickgelu", "runs/2026-emoji", "ViT-SO400M-14-SigLIP" * 4, "."]
)
def test_default_names_fit(source: str) -> None:
    name = default_name(source)
    check_name(name)
    assert len(name) <= 41


def test_the_name_rule_is_the_manifests() -> None:
    pattern = Manifest.model_json_schema()["properties"]["name"]["pattern"]
    assert pattern == f"^{export.target._NAME.pattern}$"


def test_folders_that_are_no_artifacts_are_not_replaced(
    tiny_clip: ClipModel, samples: Samples, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "emoji.failed").mkdir()
    (tmp_path / "emoji.failed" / "mine").write_bytes(b"x")
    before = _contents(tmp_path)
    for out, reason in (("photos", "something else"), ("file", "is a file"), ("emoji", "something else")):
        with pytest.raises(ConfigError, match=reason):
            export_artifact(tiny_clip, tmp_path / out, "emoji", samples)
    assert _contents(tmp_path) == before


def _write_graphs_of(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the exporter write the graphs of `exported`, whatever it is asked to export."""

    def copy(_: object, __: object, path: Path, ___: object, **____: object) -> int:
        shutil.copy(exported.folder / "onnx_fp32" / path.name, path)
        return 10

    monkeypatch.setattr(export.engines, "write_onnx", copy)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_golden_vectors_are_met_by_the_engine_and_by_no_other_model(exported: Any) -> None:
    golden = exported.manifest.golden
    vectors = {"image": golden.image, "text": golden.text}
    with Client(str(exported.folder)) as client:
        served = {
            "image": client.embed_images(golden.items("image")),
            "text": client.embed_texts([item.decode() for item in golden.items("text")]),
        }
    for role, rows in served.items():
        bound = golden.bounds["onnx_fp32"]
        assert vectors[role].misses(rows, bound) == []
        assert vectors[role].misses(rows[::-1], bound) != []
        assert "NaN or infinity" in vectors[role].misses(rows * np.nan, bound)

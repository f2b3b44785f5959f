"""ConvNeXt and CoCa: kinds of towers that the other tests here have none of."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest

from export.artifact import export_artifact
from export.graphs.source import load_source
from export.parity.samples import Samples
from protoclip.contract.errors import ModelError

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
KINDS = {
    "tiny-convnext": {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 64,
            "timm_model_name": "test_convnext",
            "timm_pool": "",
            "timm_proj": "linear",
        },
        "text_cfg": TEXT,
    },
    "tiny-coca": {
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {
            **{"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
            **{"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        },
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": TEXT,
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_passes_in_float32_and_float16(kind: str, samples: Samples, tmp_path: Path) -> None:
    (tmp_path / f"{kind}.json").write_text(json.dumps(KINDS[kind]))
    open_clip.add_model_config(tmp_path / f"{kind}.json")
    clip = load_source(kind).clip
    for name, values in clip.module.named_parameters():
        if name.startswith("text_decoder."):  # no encoder reads it, and open_clip leaves some of it to chance
            values.data.fill_(float("nan"))
    manifest = export_artifact(clip, tmp_path / "a", "tiny", samples, precisions=["fp16"], random_weights=True)
    assert [engine.name for engine in manifest.engines] == ["onnx_fp32", "onnx_fp16"]
    assert all(engine.verdict.passed for engine in manifest.engines)


@pytest.mark.parametrize(("part", "name"), [("vision_cfg", "image"), ("text_cfg", "text")])
def test_a_model_without_one_of_the_towers_is_one_line(tmp_path: Path, part: str, name: str) -> None:
    config = {key: value for key, value in KINDS["tiny-convnext"].items() if key != part}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with pytest.raises(ModelError, match=f"a model without {name} encoder: open_clip_config.json has no {part}$"):
        load_source(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("[]")
    with pytest.raises(ModelError, match="not the configuration of an open_clip model"):
        load_source(tmp_path)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")
    with pytest.raises(ModelError, match=r"cat\.png: is a file: name a run folder, or the open_clip model"):
        load_source(tmp_path / "cat.png")
    with pytest.raises(ModelError, match=r"cat\.png: no checkpoint, or one with more than tensors in it"):
        load_source("ViT-B-32", tmp_path / "cat.png")

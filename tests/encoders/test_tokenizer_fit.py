"""A stranger's tokenizer.json is refused: CLIP's words for SigLIP2, NLLB, XLM-R and mT5 passed once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Fast
from tokenizers import models, normalizers, pre_tokenizers, processors
from torch import nn

from export.parity.tokens import check_tokens
from protoclip.contract.errors import ModelError
from protoclip.encoders.loading import load_clip
from protoclip.encoders.tokenizer_file import tokenizer_from_file
from protoclip.encoders.tokenizer_fit import check_fit, tokenizer_needs
from protoclip.encoders.tokenizer_lookup import tokenizer_for

TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 8, "width": 8, "heads": 1, "layers": 1},
}


@pytest.fixture
def clip_words(tmp_path: Path) -> Path:
    """CLIP's 49,408 words, with all that the file needs."""
    path = tmp_path / "clip.json"
    path.write_text(tokenizer_for("ViT-B-32")[0], encoding="utf-8")
    return path


def _model(tmp_path: Path, name: str, **text: Any) -> str:
    """A tiny model that names a tokenizer of the hub, known to open_clip from here on."""
    config = {**TINY, "text_cfg": {**TINY["text_cfg"], **text}}  # type: ignore[dict-item]
    (tmp_path / f"{name}.json").write_text(json.dumps(config))
    import open_clip

    open_clip.add_model_config(tmp_path / f"{name}.json")
    return name


def _words(path: Path, size: int, padding: int = 0, end: int | None = 1) -> Path:
    words = {f"w{number}" if number > 2 else f"<{number}>": number for number in range(size)}
    fast = Fast(models.WordLevel(words, unk_token="<2>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    if end is not None:
        last = f"<{end}>"
        fast.post_processor = processors.TemplateProcessing(single=f"$A {last}", special_tokens=[(last, end)])
    fast.enable_padding(pad_id=padding, pad_token=f"<{padding}>")
    fast.save(str(path))
    return path


class Tower(nn.Module):
    """A text tower of the hub, by its configuration alone."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.text = nn.Module()
        self.text.config = config


def test_the_models_own_is_taken_and_the_verdict_says_that_ids_were_not_compared(tmp_path: Path) -> None:
    name = _model(tmp_path, "tiny-s2", hf_tokenizer_name="timm/ViT-B-16-SigLIP2", vocab_size=256000)
    path = _words(tmp_path / "t.json", 256000)
    clip = load_clip(name, tokenizer=path)
    (tmp_path / "tokenizer.json").write_text(clip.tokenizer_json, encoding="utf-8")
    check = check_tokens(tmp_path / "tokenizer.json", clip.text, clip, ["w3 w4"])
    assert check.outcome == "not checked"
    assert (
        "needs the tokenizer timm/ViT-B-16-SigLIP2 of the hub, which is not on this machine" in check.explanation
    )


@pytest.mark.parametrize(
    ("hub", "rows"),
    [
        ("timm/ViT-B-16-SigLIP2", 256000),
        ("timm/ViT-B-16-SigLIP-i18n-256", 250000),
        ("google/mt5-base", 250100),
        ("facebook/xlm-v-base", 901629),
        ("some/other", 50000),
    ],
)
def test_clips_words_are_refused_by_their_number(tmp_path: Path, clip_words: Path, hub: str, rows: int) -> None:
    name = _model(tmp_path, "tiny-large", hf_tokenizer_name=hub, vocab_size=rows)
    with pytest.raises(
        ModelError, match=f"clip.json: has 49408 words, and the model's own has {rows}: it belongs"
    ):
        load_clip(name, tokenizer=clip_words)


def test_clips_words_are_refused_for_text_towers_of_the_hub(clip_words: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="towers of the hub are transformers'")
    towers = {
        "facebook/nllb-200-distilled-600M": transformers.M2M100Config(vocab_size=256206),
        "xlm-roberta-base": transformers.XLMRobertaConfig(vocab_size=250002),
        "google/mt5-base": transformers.MT5Config(vocab_size=250112),
        "unknown/tower": transformers.XLMRobertaConfig(vocab_size=49500),
    }
    for hub, config in towers.items():
        text = {"hf_model_name": hub, "hf_tokenizer_name": hub}
        built, spec = tokenizer_from_file(clip_words, text)
        with pytest.raises(ModelError, match="and the model's own"):
            check_fit(clip_words, built, spec, Tower(config), text, "tiny-none")


def test_what_is_known_comes_from_the_model_first() -> None:
    transformers = pytest.importorskip("transformers", reason="towers of the hub are transformers'")
    text = {"hf_tokenizer_name": "google/mt5-base"}
    needs = tokenizer_needs(Tower(transformers.MT5Config(vocab_size=250112, pad_token_id=7)), text)
    assert (needs.rows, needs.size, needs.padding, needs.end) == (250112, 250100, 7, 1)
    needs = tokenizer_needs(nn.Module(), {"hf_tokenizer_name": "an/other", "pool_type": "eos", "eos_id": 5})
    assert (needs.rows, needs.size, needs.padding, needs.end) == (None, None, None, 5)


@pytest.mark.parametrize(
    ("size", "padding", "end", "reason"),
    [
        (32000, 0, 1, "pads with the id 0, and the model's own with 1"),
        (32000, 1, 2, "ends a text with the id 2, and the model's own with 1"),
        (32000, 1, None, "ends a text with the id 2, and the model's own with 1"),
        (31000, 1, 1, "has 31000 words, and the model's own has 32000"),
        (32001, 1, 1, "it belongs to another model"),
        (31990, 1, 1, None),
        (32000, 1, 1, None),
    ],
)
def test_size_padding_and_end(
    tmp_path: Path, size: int, padding: int, end: int | None, reason: str | None
) -> None:
    name = _model(tmp_path, "tiny-s1", hf_tokenizer_name="timm/ViT-B-16-SigLIP", vocab_size=32000)
    path = _words(tmp_path / "t.json", size, padding, end)
    if reason is None:
        assert load_clip(name, tokenizer=path).text.context_length == 8
        return
    with pytest.raises(ModelError, match=reason):
        load_clip(name, tokenizer=path)


def test_a_file_that_gives_no_ids_at_all_is_refused(tmp_path: Path) -> None:
    name = _model(tmp_path, "tiny-s1", hf_tokenizer_name="timm/ViT-B-16-SigLIP", vocab_size=3)
    fast = Fast(models.WordLevel({"<0>": 0, "<1>": 1, "b": 2}, unk_token="none"))
    fast.enable_padding(pad_id=1, pad_token="<1>")
    fast.normalizer = normalizers.Replace("a", "")
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.save(str(tmp_path / "t.json"))
    with pytest.raises(ModelError, match="ends a text with the id None, and the model's own with 1"):
        load_clip(name, tokenizer=tmp_path / "t.json")


def test_where_the_models_own_is_here_its_ids_are_asked_for(tmp_path: Path, clip_words: Path) -> None:
    """open_clip lowers the words' case, which a file by itself does not say."""
    name = _model(tmp_path, "tiny-own", vocab_size=49408)
    reason = "clip.json: the ids of .* are not those of the model's own, which is here already: it belongs"
    with pytest.raises(ModelError, match=reason):
        load_clip(name, tokenizer=clip_words)
    name = _model(tmp_path, "tiny-lower", vocab_size=49408, tokenizer_kwargs={"clean": "lower"})
    with pytest.raises(ModelError, match=reason):
        load_clip(name, tokenizer=clip_words)


def test_two_words_that_changed_places_are_found_though_no_text_has_them(tmp_path: Path) -> None:
    clip, path = load_clip("protoclip-mini-48"), tmp_path / "tokenizer.json"
    path.write_text(clip.tokenizer_json, encoding="utf-8")
    assert check_tokens(path, clip.text, clip, ["a cat"]).outcome == "passed"
    content = json.loads(clip.tokenizer_json)
    words = content["model"]["vocab"]
    words["zebra</w>"], words["saxophone</w>"] = words["saxophone</w>"], words["zebra</w>"]
    path.write_text(json.dumps(content), encoding="utf-8")
    check = check_tokens(path, clip.text, clip, ["a cat"])
    assert check.outcome == "failed"
    assert "2 words of tokenizer.json have other ids than in open_clip's tokenizer, 'saxophone</w>'" in (
        check.explanation
    )
    with pytest.raises(ModelError, match=r"the id of the word 'saxophone</w>' is not that of the model's own"):
        check_fit(
            path, json.dumps(content), clip.text, clip.module, clip.model_config["text_cfg"], clip.tokenizer_id
        )

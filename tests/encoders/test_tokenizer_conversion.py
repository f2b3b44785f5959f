"""Bringing open_clip's tokenizers over to the tokenizers library."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from protoclip.contract.errors import ModelError
from protoclip.contract.text import TextSpec, Tokenizer
from protoclip.encoders.tokenizer_conversion import text_spec, tokenizer_json
from protoclip.encoders.torchvision_workaround import make_torchvision_importable

TEXTS = [
    "",
    "A cat, the cats' CAT!",
    "it's 12 & 3",
    "漢字 🙂 é",
    "the the " * 60,
    "<mask> x<mask>",
    "(<end_of_text>)",
]
FAST_TEXTS = ["", "A photo of a cat!", "cat_photo  [x]", "dog 漢", "photo of a cat " * 20, "</s> cat", "a<pad>"]


@pytest.fixture(scope="module")
def open_clip() -> Any:
    make_torchvision_importable()
    import open_clip

    return open_clip


@pytest.fixture(scope="module")
def merges_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A vocabulary of 8 merges; a last line end gives the original an empty token besides."""
    path = tmp_path_factory.mktemp("merges") / "merges.txt.gz"
    merges = ["t h", "th e</w>", "c a", "ca t</w>", "ca t", "cat s</w>", "i t</w>", "' s</w>"]
    path.write_bytes(gzip.compress("\n".join(["#version", *merges, ""]).encode()))
    return str(path)


def assert_same_ids(tokenizer: Any, texts: list[str]) -> np.ndarray:
    ids = Tokenizer(tokenizer_json(tokenizer), text_spec(tokenizer)).encode(texts)
    np.testing.assert_array_equal(ids, np.asarray(tokenizer(texts)))
    return ids


def test_the_default_tokenizer(open_clip: Any) -> None:
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    assert text_spec(tokenizer) == TextSpec(77, "lower", "words")
    parsed = json.loads(tokenizer_json(tokenizer))
    assert parsed["normalizer"] is None
    assert parsed["truncation"]["max_length"] == parsed["padding"]["strategy"]["Fixed"] == 77
    assert len(parsed["model"]["vocab"]) == tokenizer.vocab_size == 49408
    rebuilt = tokenizers.Tokenizer.from_str(json.dumps(parsed))
    assert rebuilt.decode(rebuilt.encode("a photo, isn't it").ids).startswith("a photo , isn 't it !!!")


@pytest.mark.parametrize("cleaner", ["lower", "whitespace", "canonicalize"])
@pytest.mark.parametrize("length", [2, 3, 16, 200])
def test_other_vocabularies_lengths_and_cleaners(
    open_clip: Any, merges_file: str, cleaner: str, length: int
) -> None:
    tokenizer = open_clip.SimpleTokenizer(merges_file, context_length=length, clean=cleaner)
    assert text_spec(tokenizer) == TextSpec(length, cleaner, "words")
    assert_same_ids(tokenizer, TEXTS)


def test_additional_special_tokens(open_clip: Any, merges_file: str) -> None:
    tokenizer = open_clip.SimpleTokenizer(merges_file, ["<mask>", "<sep>"], context_length=32)
    ids = assert_same_ids(tokenizer, TEXTS)
    assert (ids == tokenizer.encoder["<mask>"]).sum() == 2


def test_special_tokens_that_open_clip_reads_as_patterns(open_clip: Any) -> None:
    with pytest.raises(ModelError, match=r"'<\|mask\|>'"):
        tokenizer_json(open_clip.SimpleTokenizer(additional_special_tokens=["<|mask|>"]))


def test_random_reduction(open_clip: Any) -> None:
    with pytest.raises(ModelError, match="reduction_mask"):
        tokenizer_json(open_clip.SimpleTokenizer(reduction_mask="simple"))


def test_changed_pattern_cleaner_and_length(open_clip: Any, merges_file: str) -> None:
    import regex

    changed = open_clip.SimpleTokenizer(merges_file)
    changed.pat = regex.compile(r"\S+")
    with pytest.raises(ModelError, match="pattern of its own"):
        tokenizer_json(changed)
    changed.clean_fn = str.upper
    with pytest.raises(ModelError, match="cleans with upper"):
        text_spec(changed)
    with pytest.raises(ModelError, match="context_length=1"):
        text_spec(open_clip.SimpleTokenizer(merges_file, context_length=1))


def test_ids_that_differ_are_refused(open_clip: Any, merges_file: str) -> None:
    class Reversed(open_clip.SimpleTokenizer):
        def encode(self, text: str) -> list[int]:
            return super().encode(text)[::-1]

    Reversed.__name__ = "SimpleTokenizer"
    with pytest.raises(ModelError, match=r"ids of .a photo of a cat"):
        tokenizer_json(Reversed(merges_file))


class FastStandIn:
    """What open_clip's HFTokenizer uses of transformers' fast tokenizers, around the same library."""

    truncation_side = padding_side = "right"
    pad_token_type_id = 0

    def __init__(self, backend: tokenizers.Tokenizer, pad_token: str, sep_token: str) -> None:
        self.backend_tokenizer, self.pad_token, self.sep_token = backend, pad_token, sep_token
        self.pad_token_id = backend.token_to_id(pad_token)
        self.sep_token_id = backend.token_to_id(sep_token)

    def __call__(self, texts: list[str], *, max_length: int, **_: object) -> SimpleNamespace:
        import torch

        backend = tokenizers.Tokenizer.from_str(self.backend_tokenizer.to_str())
        backend.enable_truncation(max_length)
        backend.enable_padding(pad_id=self.pad_token_id, pad_token=self.pad_token, length=max_length)
        return SimpleNamespace(input_ids=torch.tensor([row.ids for row in backend.encode_batch(texts)]))


def sentence_piece_like() -> tokenizers.Tokenizer:
    pieces = ["<pad>", "</s>", "<unk>", "▁", "▁a", "▁photo", "▁of", "▁cat", "photo", "cat", "▁dog", "o", "g"]
    scores = [0.0, 0.0, -20.0, *(-float(rank) for rank in range(1, len(pieces) - 2))]
    built = tokenizers.Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=2))
    built.normalizer = normalizers.NFKC()
    built.pre_tokenizer = pre_tokenizers.Metaspace()
    built.add_special_tokens(["<pad>", "</s>", "<unk>"])
    built.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return built


@pytest.fixture(params=["stand-in", "transformers"])
def fast_tokenizer(request: pytest.FixtureRequest, open_clip: Any, tmp_path: Path) -> Any:
    """open_clip's HFTokenizer around a small sentence-piece tokenizer that pads with 0."""
    if request.param == "transformers":
        transformers = pytest.importorskip("transformers", reason="HFTokenizer itself needs transformers")
        fast = transformers.PreTrainedTokenizerFast(
            tokenizer_object=sentence_piece_like(), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
        )
        fast.save_pretrained(tmp_path)
        return open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=16, clean="canonicalize")
    tokenizer = open_clip.tokenizer.HFTokenizer.__new__(open_clip.tokenizer.HFTokenizer)
    tokenizer.tokenizer = FastStandIn(sentence_piece_like(), "<pad>", "</s>")
    tokenizer.context_length, tokenizer.tokenizer_mode, tokenizer.strip_sep_token = 16, "", False
    tokenizer.clean_fn = open_clip.tokenizer.get_clean_fn("canonicalize")
    return tokenizer


def test_fast_tokenizers(fast_tokenizer: Any) -> None:
    assert text_spec(fast_tokenizer) == TextSpec(16, "canonicalize", "anywhere")
    ids = assert_same_ids(fast_tokenizer, FAST_TEXTS)
    assert ids[1].tolist() == [4, 5, 6, 4, 7, 1] + [0] * 10
    assert ids[4, -1] == 1


def test_siglip_tokenizers_canonicalize(open_clip: Any) -> None:
    siglip = open_clip.tokenizer.SigLipTokenizer.__new__(open_clip.tokenizer.SigLipTokenizer)
    siglip.tokenizer, siglip.context_length = FastStandIn(sentence_piece_like(), "</s>", "</s>"), 16
    assert text_spec(siglip) == TextSpec(16, "canonicalize", "anywhere")
    assert assert_same_ids(siglip, FAST_TEXTS)[1, 5:].tolist() == [1] * 11


def test_fast_tokenizers_that_need_more(fast_tokenizer: Any) -> None:
    fast_tokenizer.strip_sep_token = True
    with pytest.raises(ModelError, match="strip_sep_token"):
        tokenizer_json(fast_tokenizer)
    fast_tokenizer.tokenizer_mode = "clips"
    with pytest.raises(ModelError, match="mode 'clips'"):
        tokenizer_json(fast_tokenizer)
    fast_tokenizer.tokenizer_mode, fast_tokenizer.strip_sep_token = "", False
    fast_tokenizer.tokenizer = SimpleNamespace()
    with pytest.raises(ModelError, match="no fast tokenizer"):
        tokenizer_json(fast_tokenizer)


def test_something_else(open_clip: Any) -> None:
    with pytest.raises(ModelError, match="the tokenizer function has context_length=None"):
        tokenizer_json(open_clip.tokenize)

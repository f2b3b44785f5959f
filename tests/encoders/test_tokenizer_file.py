"""A tokenizer.json given by hand, for models whose tokenizer lies on a hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Fast
from tokenizers import models, pre_tokenizers, processors

from protoclip.contract.errors import ModelError
from protoclip.contract.text import TextSpec, Tokenizer
from protoclip.encoders.tokenizer_file import tokenizer_from_file

TEXT_CONFIG = {"context_length": 8, "vocab_size": 10, "tokenizer_kwargs": {"clean": "canonicalize"}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "red": 3, "shoes": 4}
    fast = Fast(models.WordLevel(words, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def _say_padding(file: Path, token: object) -> None:
    file.with_name("tokenizer_config.json").write_text(json.dumps({"pad_token": token}))


@pytest.mark.parametrize("token", ["</s>", {"content": "</s>", "special": True}])
def test_length_and_cleaner_are_the_models_and_padding_the_files(file: Path, token: object) -> None:
    _say_padding(file, token)
    text, spec = tokenizer_from_file(file, TEXT_CONFIG)
    assert spec == TextSpec(8, "canonicalize")
    assert Tokenizer(text, spec).encode(["Red_shoes!", "red " * 20]).tolist() == [
        [3, 4, 1, 1, 1, 1, 1, 1],
        [3, 3, 3, 3, 3, 3, 3, 1],
    ]


def test_padding_may_stand_in_the_file_itself(file: Path) -> None:
    fast = Fast.from_file(str(file))
    fast.enable_padding(pad_id=0, pad_token="<pad>")
    fast.save(str(file))
    text, spec = tokenizer_from_file(file, {"context_length": 4})
    assert spec == TextSpec(4, "whitespace")
    assert Tokenizer(text, spec).encode(["red"]).tolist() == [[3, 1, 0, 0]]


def test_what_can_not_be_used_is_one_line(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not say what it pads with: copy tokenizer_config\.json beside it"):
        tokenizer_from_file(file, TEXT_CONFIG)
    _say_padding(file, "<pad>")
    with pytest.raises(ModelError, match=r"has 5 words.*the model knows 4: it belongs to another model"):
        tokenizer_from_file(file, {"vocab_size": 4})
    with pytest.raises(ModelError, match=r"tokenizer_kwargs {'strip_sep_token': True} can't be used"):
        tokenizer_from_file(file, {"tokenizer_kwargs": {"strip_sep_token": True}})
    with pytest.raises(ModelError, match=r"nowhere\.json: can't be read: No such file"):
        tokenizer_from_file(tmp_path / "nowhere.json", {})
    (tmp_path / "picture.json").write_bytes(b"\x89PNG")
    with pytest.raises(ModelError, match=r"picture\.json: not a tokenizer\.json"):
        tokenizer_from_file(tmp_path / "picture.json", {})
    file.with_name("tokenizer_config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: not JSON as transformers writes it"):
        tokenizer_from_file(file, TEXT_CONFIG)

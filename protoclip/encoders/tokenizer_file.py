"""A tokenizer.json given by the user, for models whose tokenizer is on the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from protoclip.contract.errors import ModelError
from protoclip.contract.text import Cleaner, TextSpec, Tokenizer

CONFIG_FILE = "tokenizer_config.json"
_DEFAULT_LENGTH = 77


def tokenizer_from_file(path: Path, text_config: Mapping[str, Any]) -> tuple[str, TextSpec]:
    """The tokenizer.json at `path`, truncated and padded to the model's context length, and its text spec.

    Length and cleaning are the model's own (`text_cfg`). The padding token is read from the file, or from the
    `tokenizer_config.json` beside it.

    Raises:
        ModelError: no such file or no tokenizer, no padding token, ids beyond the model's vocabulary, or a
            setting of the model's that can't be converted.
    """
    from tokenizers import Tokenizer as Fast

    try:
        built = Fast.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"tokenizer {path}: can't be read: {error.strerror or error}") from error
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise ModelError(
            f"tokenizer {path}: not a tokenizer.json: {' '.join(str(error).split())[:200]}"
        ) from error
    spec = _spec(path, text_config)
    token = _padding_token(path, built)
    number = built.token_to_id(token)
    words = int(text_config.get("vocab_size", built.get_vocab_size()))
    if number is None or built.get_vocab_size() > words:
        raise ModelError(
            f"tokenizer {path}: has {built.get_vocab_size()} words, pads with {token!r}, and the model knows "
            f"{words}: it belongs to another model"
        )
    built.enable_truncation(spec.context_length)
    built.enable_padding(pad_id=number, pad_token=token, length=spec.context_length)
    text: str = built.to_str()
    Tokenizer(text, spec)
    return text, spec


def _spec(path: Path, text_config: Mapping[str, Any]) -> TextSpec:
    settings = dict(text_config.get("tokenizer_kwargs", {}))
    cleaner = settings.pop("clean", "whitespace")
    if settings or cleaner not in get_args(Cleaner):
        raise ModelError(f"tokenizer {path}: the model's tokenizer_kwargs {settings or cleaner!r} can't be used")
    return TextSpec(int(text_config.get("context_length", _DEFAULT_LENGTH)), cleaner)


def _padding_token(path: Path, tokenizer: Any) -> str:
    beside = path.with_name(CONFIG_FILE)
    if beside.is_file():
        try:
            token = json.loads(beside.read_text(encoding="utf-8")).get("pad_token")
        except (ValueError, AttributeError) as error:
            raise ModelError(f"tokenizer {beside}: not JSON as transformers writes it: {error}") from error
        if token:
            return str(token["content"] if isinstance(token, dict) else token)
    if tokenizer.padding is None:
        raise ModelError(f"tokenizer {path}: does not say what it pads with: copy {CONFIG_FILE} beside it")
    return str(tokenizer.padding["pad_token"])

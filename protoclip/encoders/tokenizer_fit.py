"""Whether a tokenizer.json that a user names is the model's: its size, its special tokens, and its ids.

A stranger's file gives other ids for the same words, which the text tower takes without an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from protoclip.contract.errors import ModelError
from protoclip.contract.text import TextSpec, Tokenizer

from .reference_tokenizer import reference_tokenizer, torture_texts, words_with_other_ids

# Embeddings are padded with rows that no token has, to a multiple of 128 at most.
_MAX_UNUSED_ROWS = 127


@dataclass(frozen=True)
class TokenizerNeeds:
    """What is known of the tokenizer that a model was trained with; None: not known.

    Attributes:
        rows: of the token embedding.
        size: of the vocabulary; else it fills the rows, or all but a few.
        padding: the id that a short text is filled up with.
        end: the last id of a text, before the padding.
    """

    rows: int | None = None
    size: int | None = None
    padding: int | None = None
    end: int | None = None


# By the name on the hub, where open_clip's configuration names nothing but that. SigLIP's and SigLIP2's are those
# that its training code pads and ends with; the others are in their models' configurations.
_PUBLISHED: Mapping[str, TokenizerNeeds] = {
    r".*SigLIP2.*": TokenizerNeeds(padding=0, end=1),
    r".*SigLIP(-\d+)?": TokenizerNeeds(padding=1, end=1),
    r"google/mt5-.*": TokenizerNeeds(size=250100, padding=0, end=1),
    r"facebook/xlm-v-base": TokenizerNeeds(padding=1, end=2),
    r"xlm-roberta-.*": TokenizerNeeds(padding=1, end=2),
    r"facebook/nllb-200-.*": TokenizerNeeds(padding=1),  # its versions end with </s> or with the language
    r"roberta-.*": TokenizerNeeds(padding=1, end=2),
    r"bert-base-uncased": TokenizerNeeds(size=30522, padding=0, end=102),
}


def check_fit(
    path: Path, tokenizer_json: str, spec: TextSpec, module: nn.Module, text_config: Mapping[str, Any], own: str
) -> None:
    """Checks the file at `path`, as `tokenizer_from_file` read it, against the model.

    Ids are compared on the torture set where open_clip's own tokenizer, called `own`, is on this machine; where
    it is not, the verdict says so.

    Raises:
        ModelError: it is another model's tokenizer.
    """
    problem = _misfit(tokenizer_json, tokenizer_needs(module, text_config))
    if problem is None:
        problem = _other_ids(tokenizer_json, spec, own)
    if problem is not None:
        raise ModelError(f"tokenizer {path}: {problem}: it belongs to another model")


def tokenizer_needs(module: nn.Module, text_config: Mapping[str, Any]) -> TokenizerNeeds:
    """What the model and its configuration say, and else what is known of the tokenizer that it names."""
    name = str(text_config.get("hf_tokenizer_name") or text_config.get("hf_model_name") or "")
    known = next((needs for pattern, needs in _PUBLISHED.items() if re.fullmatch(pattern, name)), TokenizerNeeds())
    tower = getattr(getattr(module, "text", None), "config", None)  # of a text tower of the hub
    end = text_config.get("eos_id") if text_config.get("pool_type") == "eos" else None
    return TokenizerNeeds(
        rows=_rows(module),
        size=known.size,
        padding=_first(getattr(tower, "pad_token_id", None), known.padding),
        end=_first(end, known.end),
    )


def _rows(module: nn.Module) -> int | None:
    for part in (module, getattr(module, "text", None)):
        found = getattr(part, "token_embedding", None)
        if isinstance(found, nn.Embedding):
            return found.num_embeddings
    config = getattr(getattr(module, "text", None), "config", None)
    size = getattr(config, "vocab_size", None)
    return None if size is None else int(size)


def _first(*values: Any) -> int | None:
    return next((int(value) for value in values if value is not None), None)


def _misfit(tokenizer_json: str, needs: TokenizerNeeds) -> str | None:
    from tokenizers import Tokenizer as Fast

    fast = Fast.from_str(tokenizer_json)
    size = fast.get_vocab_size()
    expected = needs.size or needs.rows
    unused = 0 if needs.size else _MAX_UNUSED_ROWS
    if expected is not None and not expected - unused <= size <= expected:
        return f"has {size} words, and the model's own has {expected}"
    padding = (fast.padding or {}).get("pad_id")
    if needs.padding not in (None, padding):
        return f"pads with the id {padding}, and the model's own with {needs.padding}"
    fast.no_padding()
    last = next(reversed(fast.encode("a").ids), None)
    if needs.end not in (None, last):
        return f"ends a text with the id {last}, and the model's own with {needs.end}"
    return None


def _other_ids(tokenizer_json: str, spec: TextSpec, own: str) -> str | None:
    try:
        theirs = reference_tokenizer(own)
    except ModelError:
        return None  # the verdict says that there was nothing to compare with
    texts = torture_texts(spec.context_length)
    ours = Tokenizer(tokenizer_json, spec).encode(texts)
    for text, row, expected in zip(texts, ours, theirs(texts), strict=True):
        if not np.array_equal(row, expected):
            return f"the ids of {text[:40]!a} are not those of the model's own, which is here already"
    if words := words_with_other_ids(tokenizer_json, own):
        return f"the id of the word {words[0][:40]!a} is not that of the model's own, which is here already"
    return None

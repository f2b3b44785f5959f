"""Converts an open_clip tokenizer to a tokenizer.json for the tokenizers library.

The JSON holds vocabulary, merges, special tokens, truncation and padding; cleaning stays in
`protoclip.contract.text`. The result is compared with the original before it is returned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np
import regex  # type: ignore[import-untyped]

from protoclip.contract.errors import ModelError
from protoclip.contract.text import Cleaner, TextSpec, Tokenizer

_CLEANERS: dict[str, Cleaner] = {
    "_clean_lower": "lower",
    "_clean_whitespace": "whitespace",
    "_clean_canonicalize": "canonicalize",
}
_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_CLASSES = (r"[\p{L}]", r"[\p{N}]", r"[^\s\p{L}\p{N}]")
_WORDS = f"|{'|'.join(_CONTRACTIONS)}|{_CLASSES[0]}+|{_CLASSES[1]}|{_CLASSES[2]}+"

_PROBES = (
    "",
    "a photo of a cat, isn't it?",
    "Ünïcödé & 2 x 3 = 6 — l'été",
    "漢字かな交じり文 🙂👩‍👩‍👧 مرحبا สวัสดี",
    "&lt;b&gt; ΟΔΥΣΣΕΥΣ It's WE'LL",
    "a word and another " * 100,
)


def text_spec(tokenizer: Any) -> TextSpec:
    """The cleaner and the context length of an open_clip tokenizer.

    Raises:
        ModelError: `tokenizer_json` can't convert the tokenizer.
    """
    kind = type(tokenizer).__name__
    length = getattr(tokenizer, "context_length", None)
    if not isinstance(length, int) or length < 2:
        raise ModelError(f"the tokenizer {kind} has context_length={length}: it must be 2 or more")
    if kind == "SigLipTokenizer":
        return TextSpec(length, "canonicalize")
    cleaner = getattr(getattr(tokenizer, "clean_fn", None), "__name__", "none at all")
    if cleaner not in _CLEANERS:
        raise ModelError(
            f"the tokenizer {kind} cleans with {cleaner}: only {sorted(_CLEANERS)} can be brought over"
        )
    return TextSpec(length, _CLEANERS[cleaner], "words" if kind == "SimpleTokenizer" else "anywhere")


def tokenizer_json(tokenizer: Any) -> str:
    """The tokenizer.json whose ids, with `text_spec(tokenizer)`, are those of the open_clip tokenizer.

    Takes open_clip's SimpleTokenizer with any vocabulary, and its HFTokenizer and SigLipTokenizer where their
    fast tokenizer works without further Python code.

    Raises:
        ModelError: the tokenizer can't be converted, or the ids differ on a set of probe texts.
    """
    spec = text_spec(tokenizer)
    if type(tokenizer).__name__ == "SimpleTokenizer":
        built = _from_simple(tokenizer)
    else:
        built = _from_fast(tokenizer)
    text = cast(str, built.to_str())
    _require_same_ids(tokenizer, text, spec)
    return text


def _from_simple(tokenizer: Any) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    if tokenizer.reduction_fn is not None:
        raise ModelError("the tokenizer drops tokens at random (reduction_mask): build it without for serving")
    special = [tokenizer.decoder[index] for index in tokenizer.all_special_ids]
    merges = [merge for merge in sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get) if len(merge) == 2]
    try:
        model = models.BPE(vocab=tokenizer.encoder, merges=merges, end_of_word_suffix="</w>")
    except Exception as error:
        raise ModelError(f"the tokenizer's merges don't fit its vocabulary: {error}") from error
    built = Tokenizer(model)
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_word_pattern(tokenizer, special)), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    built.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " ")])
    built.add_special_tokens(special)
    start, end = special[:2]
    built.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(start, tokenizer.sot_token_id), (end, tokenizer.eot_token_id)],
    )
    built.enable_truncation(tokenizer.context_length)
    built.enable_padding(pad_id=0, pad_token=tokenizer.decoder[0], length=tokenizer.context_length)
    return built


def _word_pattern(tokenizer: Any, special: list[str]) -> str:
    """The tokenizer's word pattern, with case folding and character classes written out.

    Both depend on the regex engine and the Unicode version of its tables: the tokenizers library counts
    17,000 letters fewer than the `regex` module that open_clip uses, and folds "ß" to "ss".
    """
    if tokenizer.pat.pattern != "|".join(special) + _WORDS:
        raise ModelError("the tokenizer splits words by a pattern of its own, which can't be brought over")
    for token in special:
        if not regex.fullmatch(r"[\w<>/ -]+", token):
            raise ModelError(
                f"special token {token!r}: open_clip reads it as a pattern; use letters, _ and <> only"
            )
    literals = ["".join(_any_case(char) for char in token) for token in (*special, *_CONTRACTIONS)]
    letters, numbers, others = (_ranges(pattern) for pattern in _CLASSES)
    return "|".join([*literals, f"[{letters}]+", f"[{numbers}]", f"[{others}]+"])


@cache
def _any_case(char: str) -> str:
    return f"[{_ranges(regex.escape(char))}]"


@cache
def _ranges(pattern: str) -> str:
    """The characters that `pattern` matches, ignoring case, as the inside of a character class."""
    runs = regex.finditer(f"(?:{pattern})+", _all_characters(), regex.IGNORECASE)
    return "".join(_escaped(ord(run[0][0]), ord(run[0][-1])) for run in runs)


@cache
def _all_characters() -> str:
    return "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)


def _escaped(first: int, last: int) -> str:
    return f"\\x{{{first:X}}}" + (f"-\\x{{{last:X}}}" if last > first else "")


def _from_fast(tokenizer: Any) -> Any:
    from tokenizers import Tokenizer

    name = type(tokenizer).__name__
    if getattr(tokenizer, "tokenizer_mode", ""):
        raise ModelError(
            f"the tokenizer {name} has mode {tokenizer.tokenizer_mode!r}, which can't be brought over"
        )
    if getattr(tokenizer, "strip_sep_token", False):
        raise ModelError(
            f"the tokenizer {name} blanks its separator (strip_sep_token), which can't be brought over"
        )
    inner = getattr(tokenizer, "tokenizer", None)
    backend = getattr(inner, "backend_tokenizer", None)
    if inner is None or backend is None:
        raise ModelError(f"the tokenizer {name} has no fast tokenizer inside, so it can't be brought over")
    built = Tokenizer.from_str(backend.to_str())
    length = tokenizer.context_length
    built.enable_truncation(length, direction=inner.truncation_side)
    built.enable_padding(
        direction=inner.padding_side,
        pad_id=inner.pad_token_id,
        pad_type_id=inner.pad_token_type_id,
        pad_token=inner.pad_token,
        length=length,
    )
    return built


def _require_same_ids(tokenizer: Callable[[list[str]], Any], text: str, spec: TextSpec) -> None:
    try:
        ours = Tokenizer(text, spec).encode(_PROBES)
    except ValueError as error:
        raise ModelError(f"the tokenizer {type(tokenizer).__name__} can't be brought over: {error}") from error
    theirs = np.asarray(tokenizer(list(_PROBES)))
    for probe, ours_row, theirs_row in zip(_PROBES, ours, theirs, strict=True):
        if not np.array_equal(ours_row, theirs_row):
            raise ModelError(
                f"the tokenizer {type(tokenizer).__name__} can't be brought over: the ids of {probe[:40]!r} differ"
            )

"""A tokenizer.json that cleans texts by itself, for programs that hand it the text as it is.

Ours are cleaned in Python first (`protoclip.contract.text.clean`). What a tokenizer.json can express of that is
put in front of its own normalizer: lower case by Python's rules, blanks, what ftfy does to single characters, and
the HTML entities that are common in captions. Broken encodings ("Ã©" for "é") and other entities stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import ftfy.fixes

from protoclip.contract.errors import ModelError
from protoclip.contract.text import Cleaner, TextSpec, Tokenizer, clean

_ENTITIES = {
    "&amp;?": "&",
    "&lt;?": "<",
    "&gt;?": ">",
    "&quot;?": '"',
    "&(?:apos;|#0*39;?|#[xX]0*27;?)": "'",
    "&(?:nbsp;?|#0*160;?|#[xX]0*[aA]0;?)": " ",
    "&hellip;": "…",
    "&ndash;": "–",
    "&mdash;": "—",
    "&(?:l|r)squo;": "'",
    "&(?:l|r)dquo;": '"',
}
# Where ftfy changes a character: controls, quotes, ligatures, and characters of full or half width.
_CHANGED = [range(0x3001), range(0xFB00, 0xFB07), range(0xFE00, 0x10000)]
_TERMINAL = "\x1b\\[[0-9;]*[a-zA-Z]"
_BLANKS = "[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
_PUNCTUATION = r"[!-/:-@\[-^`{-~]"
_PROBES = (
    "",
    "a photo of a cat, isn't it?",
    "Ünïcödé & 2 x 3 = 6 — l'été   “quoted” ‘It’s’",
    "漢字かな交じり文，ＡＢＣ１２３！ ｶﾞ 🙂👩‍👩‍👧 مرحبا สวัสดี",
    "&lt;b&gt; ΟΔΥΣΣΕΥΣ Σ ΑΣ. It's WE'LL &amp;amp; İstanbul",
    "snake_case #tag don't.stop\tnow\n\u2028ﬁn\u200b\x07 e\u0301",
    "a word and another " * 100,
)


def portable_tokenizer(tokenizer_json: str, spec: TextSpec) -> Any:
    """The tokenizer, cleaning included, without truncation and padding, which the program sets.

    Raises:
        ModelError: its ids differ from ours on a set of probe texts.
    """
    from tokenizers import Tokenizer as Fast
    from tokenizers import normalizers

    fast: Any = Fast.from_str(tokenizer_json)
    own = [] if fast.normalizer is None else [fast.normalizer]
    if steps := [*_cleaning(spec.cleaner), *own]:
        fast.normalizer = normalizers.Sequence(steps)
    fast.no_padding()
    fast.no_truncation()
    _require_same_ids(fast, Tokenizer(tokenizer_json, spec), spec)
    return fast


def _require_same_ids(fast: Any, ours: Tokenizer, spec: TextSpec) -> None:
    # A copy, since it is cut to the context's length for the comparison.
    copy = type(fast).from_str(fast.to_str())
    copy.enable_truncation(spec.context_length)
    for probe, row in zip(_PROBES, ours.encode(_PROBES), strict=True):
        ids = copy.encode(probe).ids
        if list(row[: len(ids)]) != ids:
            raise ModelError(
                f"the tokenizer can't be written for other programs: the ids of {probe[:40]!r} differ, cleaned "
                f"{clean(probe, spec.cleaner)[:40]!r}"
            )


def _cleaning(cleaner: Cleaner) -> list[Any]:
    from tokenizers import Regex
    from tokenizers.normalizers import NFC, Lowercase, Replace, Strip

    if cleaner == "none":
        return []
    steps = [Replace(Regex(_TERMINAL), ""), *_replaced(_ENTITIES), *_replaced(_ENTITIES), *_replaced(_by_ftfy())]
    steps.append(NFC())
    if cleaner == "canonicalize":
        steps += [Replace("_", " "), Replace(Regex(_PUNCTUATION), "")]
    if cleaner != "whitespace":
        steps += [Replace(Regex(_final_sigma()), "ς"), Lowercase()]
    return [*steps, Replace(Regex(_BLANKS), " "), Strip()]


def _replaced(patterns: dict[str, str]) -> list[Any]:
    from tokenizers import Regex
    from tokenizers.normalizers import Replace

    return [Replace(Regex(pattern), text) for pattern, text in patterns.items()]


@cache
def _by_ftfy() -> dict[str, str]:
    """Character classes and what ftfy makes of the characters in them."""
    found: dict[str, list[int]] = {}
    for code in (code for codes in _CHANGED for code in codes):
        text = _fixed(chr(code))
        if text != chr(code):
            found.setdefault(text, []).append(code)
    return {_character_class(codes): text for text, codes in found.items()}


def _fixed(char: str) -> str:
    fixes = ftfy.fixes
    for fix in (fixes.fix_c1_controls, fixes.fix_latin_ligatures, fixes.fix_character_width, fixes.uncurl_quotes):
        char = fix(char)
    return fixes.remove_control_chars(char)


def _character_class(codes: Sequence[int]) -> str:
    return "".join(["[", *(f"\\x{{{code:X}}}" for code in codes), "]"])


@cache
def _final_sigma() -> str:
    """Where Python writes ς for Σ: behind a letter and before none, not counting marks and apostrophes."""
    cased, skipped = r"[\p{Lu}\p{Ll}\p{Lt}]", r"[\p{Mn}\p{Me}\p{Cf}\p{Lm}\p{Sk}'.:·’]"
    behind = "|".join(f"{cased}{skipped * count}" for count in range(4))
    return f"(?<={behind})Σ(?!{skipped}*{cased})"


def special_names(fast: Any) -> tuple[str | None, str]:
    """The tokens that a text begins with, None for no such, and ends with."""
    tokens = fast.encode("").tokens
    if not 1 <= len(tokens) <= 2:
        raise ModelError(f"the tokenizer puts {len(tokens)} tokens around a text, where one or two are known")
    return (tokens[0] if len(tokens) == 2 else None), tokens[-1]


def end_of(tokenizer_json: str) -> int | None:
    """Number of the last token of every text; None for a tokenizer that adds none."""
    from tokenizers import Tokenizer as Fast

    fast: Any = Fast.from_str(tokenizer_json)
    fast.no_padding()
    return next(reversed(fast.encode("").ids), None)


def padding_of(tokenizer_json: str) -> tuple[int, str, str]:
    """Number, name and side of our padding."""
    padding = json.loads(tokenizer_json)["padding"]
    return int(padding["pad_id"]), str(padding["pad_token"]), str(padding["direction"]).lower()

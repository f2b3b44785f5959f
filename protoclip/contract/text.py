"""Text, one implementation: from strings to token ids for training, server and client.

This file needs NumPy, ftfy and tokenizers only: the Triton preprocessing model carries a copy of it.
`B` texts, `T` the context length.
"""

from __future__ import annotations

import hashlib
import html
import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import ftfy
import numpy as np
import tokenizers
from numpy.typing import NDArray

Cleaner = Literal["lower", "whitespace", "canonicalize", "none"]

MAX_CHARACTERS = 16_384
"""Characters of a text that are read; the rest is cut off before cleaning.

The cut changes no ids where the characters before it fill the context, except that ftfy judges broken
encodings and HTML entities by the whole line, so that such a line could be repaired differently.
"""

MAX_NESTED_ENTITIES = 8
"""Of "&amp;amp;amp;…": each level costs a pass over the whole text."""

MAX_COMBINING_CHARACTERS = 128
"""In a row: bringing them into their normal order takes quadratic time."""

_BLANK_LINES = re.compile(r"\n[ \t\r\n]*\n")

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


class TextError(ValueError):
    """A text can't be used; the message is one line."""


@dataclass(frozen=True)
class TextSpec:
    """How a text becomes the encoder's input.

    Attributes:
        context_length: T, tokens per text.
        cleaner: how the string is cleaned first, by open_clip's names.
        special_tokens: where the literal string of a special token in a text is encoded as that token:
            "anywhere", or where the tokenizer's word splitting keeps it whole, as in open_clip's SimpleTokenizer.

    Raises:
        ValueError: a length below 1, or an unknown cleaner.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  what the manifest's reader does with unknown fields

    context_length: int
    cleaner: Cleaner = "lower"
    special_tokens: Literal["anywhere", "words"] = "anywhere"

    def __post_init__(self) -> None:
        if self.context_length < 1:
            raise ValueError(f"context_length={self.context_length}: must be 1 or more")
        if self.cleaner not in get_args(Cleaner):
            raise ValueError(f"cleaner={self.cleaner!r}: must be of {get_args(Cleaner)}")


def check_text(text: object) -> str:
    """Returns `text` as it is if it can be embedded; server and client call this on every text.

    Raises:
        TextError: not a string, blank, or with a NUL or half a surrogate pair in it.
    """
    if not isinstance(text, str):
        raise TextError(f"a text must be a string, not {type(text).__name__}")
    if not text.strip():
        raise TextError("the text is blank: give at least one word")
    if "\0" in text:
        raise TextError(f"the text holds a NUL character at position {text.index(chr(0))}: remove it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TextError(
            f"the text holds half a surrogate pair at position {error.start}: decode it from its bytes again"
        ) from None
    return text


def clean(text: str, cleaner: Cleaner) -> str:
    """The string that the tokenizer sees, as open_clip's `get_clean_fn(cleaner)` makes it.

    All but "none" repair broken encodings (ftfy), resolve HTML entities twice and collapse white space to one
    blank; "lower" also converts to lower case; "canonicalize" does so too, turns underscores into blanks
    and drops ASCII punctuation. The result may be empty.

    Raises:
        TextError: what would take quadratic time: an HTML entity that is a number of thousands of digits, entities
            nested more than `MAX_NESTED_ENTITIES` deep, more than `MAX_COMBINING_CHARACTERS` in a row.
    """
    if cleaner == "none":
        return text
    # ftfy goes line by line; blank lines would be a blank in the end, too.
    text = _BLANK_LINES.sub("\n", text)
    try:
        _check_combining(_resolve_entities(text))
        text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    except TextError:
        raise
    except ValueError as error:
        raise TextError(f"the text's HTML entities can't be resolved: {_one_line(error)}") from error
    if cleaner == "canonicalize":
        text = text.replace("_", " ").translate(_WITHOUT_PUNCTUATION).lower()
    text = " ".join(text.split())
    return text.lower() if cleaner == "lower" else text


class Tokenizer:
    """Texts to ids. Truncation, padding and the special tokens around a text come from the JSON.

    Args:
        tokenizer_json: from `protoclip.encoders.tokenizer_conversion.tokenizer_json`, for the tokenizers library.
        spec: must belong to the same tokenizer.

    Raises:
        ValueError: the JSON can't be read, or pads to another length than `spec.context_length`.
    """

    def __init__(self, tokenizer_json: str, spec: TextSpec) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json)
        except Exception as error:
            raise ValueError(f"tokenizer.json can't be read: {_one_line(error)}") from error
        padded = (self._tokenizer.padding or {}).get("length")
        truncated = (self._tokenizer.truncation or {}).get("max_length")
        if (padded, truncated) != (spec.context_length,) * 2:
            raise ValueError(
                f"tokenizer.json pads to {padded} and truncates to {truncated} tokens, "
                f"but context_length is {spec.context_length}: they must be equal"
            )
        self._json, self._spec = tokenizer_json, spec
        added = self._tokenizer.get_added_tokens_decoder().values()
        self._special_tokens = tuple(token.content for token in added if token.special)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of all that the ids of a text depend on, the versions of the libraries included."""
        versions = f"ftfy {ftfy.__version__}, tokenizers {tokenizers.__version__}"
        digest = hashlib.sha256(Path(__file__).read_bytes())
        digest.update("\0".join((repr(self._spec), versions, self._json)).encode("utf-8"))
        return digest.hexdigest()

    @property
    def largest_id(self) -> int:
        """No text has a larger id."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Ids of the cleaned texts, int32 `[B, T]`; the end-of-text token survives truncation.

        An empty text is accepted and gives the special tokens alone; no texts give `[0, T]`. Only the first
        `MAX_CHARACTERS` of a text are read. Safe to call from several threads.

        Raises:
            TextError: a text that `clean` refuses, or, with the cleaner "none", half a surrogate pair in it.
                Encode text by text where one bad text must not affect the others.
        """
        ids = np.zeros((len(texts), self._spec.context_length), dtype=np.int32)
        for row, text in enumerate(texts):
            ids[row] = self._encode_one(clean(_head(text), self._spec.cleaner))
        return ids

    def _encode_one(self, text: str) -> list[int]:
        words = self._spec.special_tokens == "words" and any(token in text for token in self._special_tokens)
        try:
            if words:
                return self._tokenizer.encode(self._split(text), is_pretokenized=True).ids
            return self._tokenizer.encode(text).ids
        except (TypeError, UnicodeError) as error:
            raise TextError(f"the text can't be tokenized: {_one_line(error)}") from error

    def _split(self, text: str) -> list[str]:
        pieces = self._tokenizer.pre_tokenizer.pre_tokenize_str(text)
        return [text[start:end] for _, (start, end) in pieces]


def _resolve_entities(text: str) -> str:
    """All HTML entities of the text resolved, also those that come about by resolving others."""
    for _ in range(MAX_NESTED_ENTITIES + 1):
        resolved = html.unescape(text)
        if resolved == text:
            return text
        text = resolved
    raise TextError(f"the text has HTML entities nested more than {MAX_NESTED_ENTITIES} deep: resolve them first")


def _check_combining(text: str) -> None:
    length = 0
    for character in "" if text.isascii() else text:
        length = length + 1 if unicodedata.combining(character) else 0
        if length > MAX_COMBINING_CHARACTERS:
            raise TextError(
                f"the text has more than {MAX_COMBINING_CHARACTERS} combining characters in a row: remove them"
            )


def _head(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text.lstrip(" \t\r\n")[:MAX_CHARACTERS]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

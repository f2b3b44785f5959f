"""Whether an artifact's tokenizer gives the ids that open_clip's own tokenizer of the model gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from protoclip.contract.errors import ModelError
from protoclip.contract.text import TextError, TextSpec, Tokenizer
from protoclip.encoders.model import ClipModel
from protoclip.encoders.reference_tokenizer import (
    Tokenize,
    reference_tokenizer,
    torture_texts,
    words_with_other_ids,
)

from .checks import Check, bounded, not_checked

TOKENS = "tokens"


def check_tokens(file: Path, text: TextSpec, clip: ClipModel, texts: Sequence[str]) -> Check:
    """The check that `file`, a tokenizer.json, tokenizes as open_clip does with all that `text` says.

    `texts` are compared, and the torture set. Not checked where open_clip's tokenizer is not on this machine.
    """
    try:
        content = file.read_text(encoding="utf-8")
        ours = Tokenizer(content, text)
    except (OSError, ValueError) as error:
        return Check(TOKENS, "failed", f"{file.name}: {error}")
    try:
        theirs = reference_tokenizer(clip.tokenizer_id)
    except ModelError as error:
        return not_checked(TOKENS, f"there is no tokenizer of open_clip's here to compare the ids with: {error}")
    asked = list(dict.fromkeys((*torture_texts(clip.text.context_length), *texts)))
    wrong = differing_texts(ours, theirs, asked)
    words = [] if wrong else words_with_other_ids(content, clip.tokenizer_id)
    if words:
        return Check(
            TOKENS,
            "failed",
            f"{len(words)} words of tokenizer.json have other ids than in open_clip's tokenizer, "
            f"{words[0][:60]!a} first: it is another model's, or damaged",
        )
    first = ascii(wrong[0][:60]) if wrong else ""
    return bounded(
        TOKENS,
        not wrong,
        f"the ids of {len(wrong)} of {len(asked)} texts are not those of open_clip's tokenizer, of {first} first: "
        "tokenizer.json or the manifest's `text` is another model's",
        f"{len(wrong)} of {len(asked)} texts differ",
        "0",
    )


def differing_texts(ours: Tokenizer, theirs: Tokenize, texts: Sequence[str]) -> list[str]:
    """Those of `texts` whose ids differ, or that are refused by ours."""
    expected = theirs(texts)
    return [text for text, row in zip(texts, expected, strict=True) if not np.array_equal(_ids(ours, text), row)]


def _ids(tokenizer: Tokenizer, text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    try:
        return tokenizer.encode([text])[0]
    except TextError:
        return np.zeros(0, dtype=np.int32)

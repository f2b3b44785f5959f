"""open_clip's own tokenizer of a model, to compare the converted one with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .registry import register_architectures
from .tokenizer_lookup import open_clip_tokenizer

Tokenize: TypeAlias = Callable[[Sequence[str]], NDArray[np.int64]]


def reference_tokenizer(tokenizer_id: str) -> Tokenize:
    """Texts to ids `[B, T]` as open_clip makes them for the model; `tokenizer_id` is that of a `ClipModel`.

    Nothing is downloaded.

    Raises:
        ModelError: it needs a file or a package that is not on this machine.
    """
    register_architectures()
    theirs: Any = open_clip_tokenizer(tokenizer_id, local_only=True)

    def tokenize(texts: Sequence[str]) -> NDArray[np.int64]:
        return np.asarray(theirs(list(texts)), dtype=np.int64)

    return tokenize


def words_with_other_ids(tokenizer_json: str, tokenizer_id: str) -> list[str]:
    """Words of both vocabularies that have other ids in the JSON: no set of texts has every word in it.

    Raises:
        ModelError: as `reference_tokenizer`.
    """
    from tokenizers import Tokenizer as Fast

    theirs: Any = open_clip_tokenizer(tokenizer_id, local_only=True)
    expected = theirs.encoder if hasattr(theirs, "encoder") else theirs.tokenizer.get_vocab()
    ours = Fast.from_str(tokenizer_json).get_vocab()
    return sorted(word for word in ours.keys() & expected.keys() if ours[word] != expected[word])


def torture_texts(context_length: int) -> list[str]:
    """Texts that tell tokenizers and cleaners apart: alphabets, cases, entities, lengths around the context.

    Every word of them stands alone as well: of a long text a short context shows only the beginning.
    """
    ends = [" ".join(["a"] * count) for count in range(max(context_length - 3, 1), context_length + 2)]
    words = [word for text in _TEXTS for word in text.split()]
    return list(
        dict.fromkeys([*_TEXTS, *words, *ends, "cat " * (4 * context_length), "x" * (20 * context_length)])
    )


_TEXTS = (
    "",
    "a photo of a cat",
    "A PHOTO\tof  a\r\nCat  ",
    "It's WE'LL they've I'm he'd you're don't rock'n'roll 's",
    "3.14159 1,000,000 ½ ² 2nd 10³ m² ™ № ① … ﷺ",
    "snake_case_name camelCase kebab-case http://example.com/a?b=c&d=e#f",
    "!!! ??? ... --- ___ @#$%^&*() [x] {y} ~`|\\/",
    "“curly” ‘quotes’ «guillemets» it’s",
    "&amp; &lt;b&gt; &quot;q&quot; &#39; &nbsp; &notanentity; &amp;lt;i&amp;gt;",
    "<p>Tom &amp; Jerry</p>",
    "schÃ¶n â€œquotedâ€ Ã©tÃ© voilÃ  le travail",
    "ÄÖÜß Ünïcödé e\u0301 é İstanbul ıI ﬁne",
    "ΟΔΥΣΣΕΥΣ Σ ΣΑΣ",
    "Привет мир и кот",
    "漢字かな交じり文　カタカナ ＡＢＣ１２３",
    "한국어 텍스트",
    "مرحبا بالعالم ١٢٣",
    "สวัสดีชาวโลก नमस्ते दुनिया",
    "🙂 👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ❤️‍🔥",
    "non\xa0breaking\u2003em\u3000wide\u200bzero",
    "(<start_of_text>) ?<end_of_text><end_of_text> x<end_of_text>y 's<end_of_text>",
    "a <start_of_text> b <end_of_text> c <|endoftext|> <s> </s> <pad> <unk> [CLS] [SEP]",
)

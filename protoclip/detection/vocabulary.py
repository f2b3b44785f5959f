"""The words that stand for what is not known, where a detector is made from names alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from protoclip.contract.errors import ConfigError

_FILE = Path(__file__).parent / "words" / "wordnet.txt"


@cache
def bundled_words() -> tuple[str, ...]:
    """8,000 nouns and 2,000 adjectives of WordNet 3.0, English, by the alphabet; read when first asked for."""
    return tuple(_FILE.read_text(encoding="ascii").split())


def without_names(words: Iterable[str], names: Sequence[str]) -> tuple[str, ...]:
    """The words in their order, each once, without blank ones and those that are a name.

    What differs in case, in blanks or in Unicode's way to write an accent alone is the same word.

    Raises:
        ConfigError: none is left.
    """
    seen = {_plain(name) for name in names}
    found = []
    for word in words:
        key = _plain(word)
        if key and key not in seen:
            found.append(word.strip())
        seen.add(key)
    if not found:
        raise ConfigError("the vocabulary holds no word that is not a name: give others, or num_negatives=0")
    return tuple(found)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split()).casefold()

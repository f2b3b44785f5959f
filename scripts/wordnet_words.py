"""Makes the bundled vocabulary of `protoclip detect fit-names` from the database of WordNet 3.0.

    python -m scripts.wordnet_words /usr/share/wordnet protoclip/detection/words/wordnet.txt

The folder holds `index.noun`, `data.noun` and so on, as WordNet's archive has them in `dict`, and Debian's package
`wordnet-base` in `/usr/share/wordnet`. Taken are single words of small letters, 5,000 nouns for what can be seen
(animals, plants, food, artefacts, bodies, objects, substances, shapes, weather), 3,000 other nouns and 2,000
adjectives: each time those that occur most often in WordNet's definitions and in the texts tagged with its senses.
Left out are names of one person, place or thing, and words that WordNet calls insulting or obscene in any sense.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from protoclip.contract.files import write_text

NUM_SEEN, NUM_OTHER, NUM_ADJECTIVES = 5000, 3000, 2000
SEEN = {"05", "06", "08", "13", "17", "19", "20", "25", "27"}
"""Numbers of the lexicographer's files of animals, artefacts, bodies, food, objects, phenomena, plants, shapes and
substances (lexnames(5WN))."""
INSULTS = {"disparagement", "ethnic_slur", "obscenity"}
_INSULTING = re.compile(r"\b(offensive|slur|obscene|vulgar|disparaging|derogatory|insulting|contemptuous)\b")
_WORD = re.compile(r"[a-z]{3,}")


@dataclass(frozen=True)
class Synset:
    """One line of `data.*` (wndb(5WN)).

    Attributes:
        file: number of the lexicographer's file.
        words: as they were entered.
        pointers: `(symbol, offset)` of each.
        gloss: definition and examples.
    """

    file: str
    words: tuple[str, ...]
    pointers: tuple[tuple[str, str], ...]
    gloss: str


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="ascii") as stream:
        yield from (line for line in stream if not line.startswith("  "))


def read_synsets(folder: Path, part: str) -> dict[str, Synset]:
    """Those of "noun", "adj", "verb" or "adv", by their offset."""
    found = {}
    for line in _lines(folder / f"data.{part}"):
        facts, gloss = line.split(" | ", 1)
        fields = facts.split()
        start = 4 + 2 * int(fields[3], 16)
        words = tuple(re.sub(r"\(.*\)", "", word) for word in fields[4:start:2])
        last = start + 1 + 4 * int(fields[start])
        pointers = tuple(zip(fields[start + 1 : last : 4], fields[start + 2 : last : 4], strict=True))
        found[fields[0]] = Synset(fields[1], words, pointers, gloss.lower())
    return found


def read_senses(folder: Path, part: str) -> dict[str, list[str]]:
    """The offsets of each word's synsets, the commonest sense first."""
    found = {}
    for line in _lines(folder / f"index.{part}"):
        fields = line.split()
        found[fields[0]] = fields[6 + int(fields[3]) :]
    return found


def read_tagged(folder: Path) -> Counter[str]:
    """How often a noun or adjective was tagged in texts, of `cntlist.rev`."""
    found: Counter[str] = Counter()
    for line in _lines(folder / "cntlist.rev"):
        key, _, count = line.split()
        word, kind = key.split("%")
        if kind[0] in "135":
            found[word] += int(count)
    return found


def _is_insult(synset: Synset, insults: set[str]) -> bool:
    usage = {offset for symbol, offset in synset.pointers if symbol == ";u"}
    return bool(usage & insults) or _INSULTING.search(synset.gloss) is not None


def chosen(folder: Path) -> list[str]:
    """The vocabulary, by the alphabet."""
    synsets = {part: read_synsets(folder, part) for part in ("noun", "adj", "verb", "adv")}
    insults = {offset for offset, synset in synsets["noun"].items() if INSULTS & set(synset.words)}
    counts = read_tagged(folder)
    for part in synsets.values():
        for synset in part.values():
            counts.update(set(_WORD.findall(synset.gloss)))
    refused, fit = set(), {}
    for part in ("noun", "adj"):
        for word, offsets in read_senses(folder, part).items():
            senses = [synsets[part][offset] for offset in offsets]
            if any(_is_insult(sense, insults) for sense in senses):
                refused.add(word)
            is_name = any(symbol == "@i" for symbol, _ in senses[0].pointers)
            if _WORD.fullmatch(word) and word in senses[0].words and not is_name and counts[word]:
                fit.setdefault(word, part if part == "adj" else "seen" if senses[0].file in SEEN else "other")
    words = sorted(fit.keys() - refused, key=lambda word: (-counts[word], word))
    taken = []
    for kind, count in (("seen", NUM_SEEN), ("other", NUM_OTHER), ("adj", NUM_ADJECTIVES)):
        taken += [word for word in words if fit[word] == kind][:count]
    return sorted(taken)


def main() -> None:
    folder, path = map(Path, sys.argv[1:])
    words = chosen(folder)
    assert len(words) == NUM_SEEN + NUM_OTHER + NUM_ADJECTIVES, len(words)
    write_text(path, "\n".join([*words, ""]))
    print(f"{path}: {len(words):,} words")


if __name__ == "__main__":
    main()

"""Which words of WordNet's files become the vocabulary of detectors from names."""

from __future__ import annotations

from pathlib import Path

from scripts import load_script

words = load_script("scripts/wordnet_words.py")

HEAD = "  1 This software and database is being provided to you\n"
NOUNS = """\
00000010 05 n 01 zebra 0 001 @ 00000020 n 0000 | a striped animal like a Horse; "the lazy zebra"
00000020 05 n 02 horse 0 Equus_caballus 0 000 | an animal that is ridden
00000030 15 n 01 Paris 0 001 @i 00000040 n 0000 | a city
00000040 15 n 01 city 0 000 | a place where many live
00000050 10 n 01 ethnic_slur 0 000 | an insult of people
00000060 18 n 01 lout 0 001 ;u 00000050 n 0000 | an animal of a person
00000070 18 n 01 oaf 0 000 | a person, an offensive word for a lout
00000080 09 n 01 oddity 0 000 | what nobody mentions
"""
ADJECTIVES = "00000010 00 a 01 lazy(p) 0 000 | not a city of horse and zebra  \n"


def indexed(lines: str) -> str:
    """One sense for each word."""
    rows = [(line.split()[4].replace("(p)", "").lower(), line[:8]) for line in lines.splitlines()]
    return HEAD + "".join(f"{word} n 1 0 1 0 {offset}  \n" for word, offset in rows)


def test_common_words_are_taken_and_names_and_insults_left_out(tmp_path: Path) -> None:
    for part, lines in (("noun", NOUNS), ("adj", ADJECTIVES), ("verb", ""), ("adv", "")):
        (tmp_path / f"data.{part}").write_text(HEAD + lines)
        (tmp_path / f"index.{part}").write_text(indexed(lines))
    (tmp_path / "cntlist.rev").write_text("city%1:15:00:: 1 9\n")
    # Nobody mentions the oddity, and an ethnic slur is two words.
    assert words.chosen(tmp_path) == ["city", "horse", "lazy", "zebra"]

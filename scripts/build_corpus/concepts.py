"""What the pictures show: concepts, their texts, their classes and their split.

A concept is one emoji without skin tone. Its code is its code points in upper-case hexadecimal,
joined by "-", without the variation selector FE0F: "1F3C3-200D-2642" is a man running.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .sources import Archive

UNSEEN_STYLE = "twemoji"
TAGS_PER_PHRASE = 3


@dataclass(frozen=True)
class Concept:
    """One emoji.

    `texts` are distinct and never empty, the label first. `category` and `subcategory` are the
    headings of Unicode's emoji chart in words: "animals & nature", "animal mammal".
    """

    code: str
    label: str
    unicode_name: str
    category: str
    subcategory: str
    texts: tuple[str, ...]


def plain_code(code: str) -> str:
    """`code` in the spelling of this corpus: upper case, without FE0F."""
    return "-".join(part for part in code.upper().split("-") if part != "FE0F")


def split_of(code: str, style: str) -> str:
    """The subset that a picture belongs to: train, unseen_style, unseen_concept or unseen_both.

    One concept in ten, by the MD5 of its code, is unseen: the draw depends on nothing else, so a
    concept never changes sides when the sources grow.
    """
    digest = hashlib.md5(code.encode("ascii"), usedforsecurity=False).hexdigest()
    unseen_concept = int(digest, 16) % 10 == 0
    if style == UNSEEN_STYLE:
        return "unseen_both" if unseen_concept else "unseen_style"
    return "unseen_concept" if unseen_concept else "train"


def read_concepts(emojibase: Archive, datasource: Archive) -> list[Concept]:
    """The concepts that both sources know, in the order of Unicode's emoji chart.

    Left out: the category `Component` (bare skin tones and hair) and regional indicators.
    """
    messages = emojibase.read_json("en/messages.json")
    categories = {group["order"]: group["message"] for group in messages["groups"]}
    subcategories = {group["order"]: group["key"].replace("-", " ") for group in messages["subgroups"]}
    component = next(group["order"] for group in messages["groups"] if group["key"] == "component")
    named = {plain_code(entry["unified"]): entry for entry in datasource.read_json("emoji.json")}
    entries = [e for e in emojibase.read_json("en/data.json") if e.get("group", component) != component]
    concepts = [
        Concept(
            code=code,
            label=entry["label"],
            unicode_name=(named[code]["name"] or "").lower(),
            category=categories[entry["group"]],
            subcategory=subcategories[entry["subgroup"]],
            texts=_texts(entry, named[code]),
        )
        for entry in sorted(entries, key=lambda e: e["order"])
        if (code := plain_code(entry["hexcode"])) in named
    ]
    return _without_shared_texts(concepts)


def _texts(entry: dict[str, Any], named: dict[str, Any]) -> tuple[str, ...]:
    label, tags = entry["label"], entry.get("tags", [])
    known = set(_words(label))
    new_tags = [tag for tag in tags if not set(_words(tag)) <= known]
    names = [name.replace("_", " ").replace("-", " ") for name in named["short_names"]]
    if named["name"]:
        names.append(named["name"].lower())
    return _distinct(
        [
            label,
            *(name for name in names if _speaks(name)),
            *(f"{label}, {phrase}" for phrase in _phrases(new_tags)),
            *(phrase for phrase in _phrases(tags) if "," in phrase),
        ]
    )


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _speaks(name: str) -> bool:
    """False for short names that are codes: "u7981", "+1", "flag mg", "o2"."""
    return bool(re.fullmatch(r"[a-z][a-z' ]{2,}", name)) and not re.fullmatch(r"flag [a-z]{2}", name)


def _phrases(tags: list[str]) -> list[str]:
    return [", ".join(tags[i : i + TAGS_PER_PHRASE]) for i in range(0, len(tags), TAGS_PER_PHRASE)]


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for text in texts:
        if text.strip():
            found.setdefault(text.casefold(), text)
    return tuple(found.values())


def _without_shared_texts(concepts: list[Concept]) -> list[Concept]:
    """Drops what several concepts are called: the short name "dog" of a dog's face, say."""
    owners = Counter(text.casefold() for concept in concepts for text in concept.texts)
    return [replace(c, texts=(c.label, *(t for t in c.texts[1:] if owners[t.casefold()] == 1))) for c in concepts]

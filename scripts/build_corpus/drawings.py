"""Which drawing of a style shows which concept."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .concepts import Concept, plain_code
from .sources import Archive, SourceError

REVIEWED = Path(__file__).with_name("reviewed_names.tsv")
DRAWS_NO_CONCEPT = "-"


@dataclass(frozen=True)
class Drawing:
    """A picture file; `kind` is "svg" or "bitmap"."""

    kind: str
    data: bytes


def drawings_of(style: str, archive: Archive, concepts: list[Concept]) -> dict[str, Drawing]:
    """Concept code → drawing, for the concepts that `style` has drawn.

    Raises:
        SourceError: the package is not laid out as expected, or a reviewed name is not in it.
    """
    if style == "fluent_3d":
        return _bitmaps(archive, concepts)
    icons = archive.read_json("icons.json")
    names = coded_names(archive, concepts) or _matched_names(style, icons, concepts)
    return {code: _drawing(icons, name) for code, name in names.items()}


def _bitmaps(archive: Archive, concepts: list[Concept]) -> dict[str, Drawing]:
    files = {plain_code(name.removesuffix(".webp")): name for name in archive.names("assets")}
    return {
        concept.code: Drawing("bitmap", archive.read(f"assets/{files[concept.code]}"))
        for concept in concepts
        if concept.code in files
    }


def coded_names(archive: Archive, concepts: list[Concept]) -> dict[str, str]:
    """Concept code → icon name, where the package says which code points an icon stands for."""
    names = {plain_code(code): name for code, name in archive.read_json("chars.json").items()}
    return {concept.code: names[concept.code] for concept in concepts if concept.code in names}


def _matched_names(style: str, icons: Mapping[str, Any], concepts: list[Concept]) -> dict[str, str]:
    """Concept code → icon name, where the package has names only.

    A name counts if it is the concept's label or, failing that, its name in the Unicode standard,
    and stands for one concept alone. What was found by eye to differ is in reviewed_names.tsv and
    goes first.
    """
    reviewed = read_reviewed(style, concepts)
    unknown = sorted(set(reviewed) - set(icons["icons"]))
    if unknown:
        raise SourceError(f"{REVIEWED.name}: {style} has no drawing called {', '.join(unknown)}")
    names = {code: name for name, code in reviewed.items() if code != DRAWS_NO_CONCEPT}
    free = [name for name in icons["icons"] if name not in reviewed]
    for spellings in (_by_label(concepts), _by_unicode_name(concepts)):
        for name in free:
            codes = spellings.get(squash(name), set())
            if len(codes) == 1:
                names.setdefault(next(iter(codes)), name)
    return names


def read_reviewed(style: str, concepts: list[Concept]) -> dict[str, str]:
    """Icon name → concept code, or "-" where the drawing shows no concept or another one.

    Raises:
        SourceError: a label in the file is no concept's.
    """
    codes = {concept.label: concept.code for concept in concepts} | {DRAWS_NO_CONCEPT: DRAWS_NO_CONCEPT}
    with open(REVIEWED, encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream, delimiter="\t") if row["style"] == style]
    for row in rows:
        if row["label"] not in codes:
            raise SourceError(f"{REVIEWED.name}: {row['name']}: no concept is labelled {row['label']!r}")
    return {row["name"]: codes[row["label"]] for row in rows}


def squash(name: str) -> str:
    """`name` as lower-case ASCII letters and digits: "Côte d’Ivoire" → "cotedivoire"."""
    spelled = name.replace("&", "and").replace("#", "hash").replace("*", "asterisk")
    return re.sub("[^a-z0-9]", "", unicodedata.normalize("NFKD", spelled).lower())


def _by_label(concepts: Iterable[Concept]) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for concept in concepts:
        found[squash(concept.label)].add(concept.code)
        if concept.label.startswith("flag: "):
            found[squash(concept.label.replace("flag: ", "flag for "))].add(concept.code)
    return found


def _by_unicode_name(concepts: Iterable[Concept]) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for concept in concepts:
        if concept.unicode_name:
            found[squash(concept.unicode_name)].add(concept.code)
    return found


def _drawing(icons: Mapping[str, Any], name: str) -> Drawing:
    icon = icons["icons"][name]
    left, top, width, height = (
        icon.get(key, icons.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{icon["body"]}</svg>'
    )
    return Drawing("svg", svg.encode("utf-8"))

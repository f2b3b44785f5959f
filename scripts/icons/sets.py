"""What is in the package: icon sets with their licences, and of each set one icon for each name."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scripts.build_corpus.sources import Archive, Package

ICONIFY = Package("@iconify/json", "2.2.535", "1a545f86fa224d6531d8fb101dcbe83aac2b28689a21cbed6fc68318a5af4d91")
# They let anybody use, change and pass on the pictures, in a product too; docs/large-corpus.md says more.
KEPT_LICENSES = frozenset(
    {
        "Apache-2.0",
        "BSD-3-Clause",
        "CC-BY-3.0",
        "CC-BY-4.0",
        "CC0-1.0",
        "ISC",
        "MIT",
        "MPL-2.0",
        "OFL-1.1",
        "Unlicense",
    }
)
# fmt: off
STYLES = (
    "bold", "broken", "duo", "duotone", "fill", "filled", "flat", "light", "line", "linear", "outline", "outlined",
    "regular", "remix", "round", "rounded", "sharp", "solid", "thin", "two-tone", "twotone",
)
# fmt: on
SIZES = tuple(map(str, (8, 10, 12, 14, 15, 16, 18, 20, 24, 28, 30, 32, 36, 40, 48, 64, 96)))
# One of these says a style in a set where so many icons end in it: elsewhere "light" is a traffic light's.
STYLE_SHARE = 0.05
_PIXELS = r"\d+px"


@dataclass(frozen=True)
class IconSet:
    """One set; `license` is an SPDX id, and empty where the set names none."""

    prefix: str
    title: str
    author: str
    author_url: str
    license: str
    license_url: str
    num_icons: int

    @property
    def is_kept(self) -> bool:
        """Whether its licence is one of KEPT_LICENSES."""
        return self.license in KEPT_LICENSES


@dataclass(frozen=True)
class Icon:
    """A drawing to be made.

    `icon` is its name in its set ("home-outline"), `name` the same without what says its style ("home");
    `body` is what stands inside the `<svg>` element, `box` its left, top, width and height.
    """

    set: str
    icon: str
    name: str
    license: str
    body: str
    box: tuple[float, float, float, float]

    @property
    def key(self) -> str:
        """What it is called in both forms of the corpus, without an extension."""
        return f"{self.set}/{self.icon}"

    @property
    def text(self) -> str:
        """The name in words."""
        return self.name.replace("-", " ")

    @property
    def split(self) -> str:
        """train, unseen_set, unseen_name or unseen_both: one set and one name in ten by their MD5."""
        unseen_set, unseen_name = _is_tenth(f"st{self.set}"), _is_tenth(self.name)
        if unseen_set:
            return "unseen_both" if unseen_name else "unseen_set"
        return "unseen_name" if unseen_name else "train"


def _is_tenth(text: str) -> bool:
    return int(hashlib.md5(text.encode("utf-8"), usedforsecurity=False).hexdigest(), 16) % 10 == 0


def json_files(archive: Archive) -> Iterator[dict[str, Any]]:
    """The sets' files in the order of the archive: what is compressed as one is read through once."""
    for member in archive.tar:
        if re.fullmatch(r"package/json/[^/]+\.json", member.name):
            yield archive.read_json(member.name.removeprefix("package/"))


def read_sets(files: Iterable[Mapping[str, Any]]) -> tuple[list[IconSet], list[Icon]]:
    """All sets by their prefixes, and the icons of those that are kept, in an order that mixes the sets.

    The order is that of the MD5 of each icon's key, so that every shard is a sample of the whole.
    """
    sets, icons = [], []
    for data in files:
        found = icon_set(data)
        sets.append(found)
        if found.is_kept:
            icons += icons_of(data)
    return sorted(sets, key=lambda found: found.prefix), sorted(icons, key=_place)


def icon_set(data: Mapping[str, Any]) -> IconSet:
    """What a set's file says about the set."""
    info = data.get("info") or {}
    author, terms = info.get("author") or {}, info.get("license") or {}
    return IconSet(
        prefix=data["prefix"],
        title=info.get("name", data["prefix"]),
        author=author.get("name") or "",
        author_url=author.get("url") or "",
        license=terms.get("spdx") or "",
        license_url=terms.get("url") or "",
        num_icons=len(data["icons"]),
    )


def icons_of(data: Mapping[str, Any]) -> list[Icon]:
    """One icon for each name of a set: that without a style, else the shortest, the first by alphabet.

    Hidden icons, which the set has withdrawn, and aliases, which are other names of its icons, are none of them.
    """
    shown = [icon for icon, drawing in data["icons"].items() if not drawing.get("hidden")]
    names = _Names(shown, data.get("suffixes", {}), data.get("prefixes", {}))
    chosen: dict[str, str] = {}
    for icon in sorted(shown, key=lambda icon: (len(icon), icon)):
        chosen.setdefault(names.without_style(icon), icon)
    spdx = icon_set(data).license
    return [
        Icon(data["prefix"], icon, name, spdx, data["icons"][icon]["body"], _box(data, icon))
        for name, icon in chosen.items()
    ]


class _Names:
    """The names of one set: which of their endings and beginnings say a style."""

    def __init__(self, icons: list[str], suffixes: Mapping[str, str], prefixes: Mapping[str, str]) -> None:
        self._ending = _ending_of({*suffixes, *STYLES, *SIZES})
        counts = Counter(ending for icon in icons for ending in self._endings(icon))
        common = {ending for ending, count in counts.items() if count >= STYLE_SHARE * len(icons)}
        self._ending = _ending_of({*suffixes, *common})
        beginnings = sorted(map(re.escape, filter(None, prefixes)))
        self._beginning = re.compile(f"(?:{'|'.join(beginnings)})-(.+)") if beginnings else None

    def without_style(self, icon: str) -> str:
        """`icon` without its style's beginning and without all endings that are a style or a size."""
        if self._beginning is not None and (found := self._beginning.fullmatch(icon)):
            icon = found[1]
        while found := self._ending.fullmatch(icon):
            icon = found[1]
        return icon

    def _endings(self, icon: str) -> Iterator[str]:
        """From the last one inwards: "24", "outline" of "home-outline-24"."""
        while found := self._ending.fullmatch(icon):
            icon = found[1]
            yield found[2]


def _ending_of(endings: Collection[str]) -> re.Pattern[str]:
    """Takes one of `endings`, the longest that fits, or a size in pixels off a name."""
    longest_first = sorted(filter(None, endings), key=lambda ending: (-len(ending), ending))
    return re.compile(f"(.+?)-({'|'.join([*map(re.escape, longest_first), _PIXELS])})")


def _box(data: Mapping[str, Any], icon: str) -> tuple[float, float, float, float]:
    """Left, top, width and height: the icon's own, else the set's, else those of the format."""
    own = data["icons"][icon]
    defaults = {"left": 0, "top": 0, "width": 16, "height": 16}
    left, top, width, height = (own.get(key, data.get(key, value)) for key, value in defaults.items())
    return left, top, width, height


def _place(icon: Icon) -> tuple[str, str]:
    return hashlib.md5(icon.key.encode("utf-8"), usedforsecurity=False).hexdigest(), icon.key

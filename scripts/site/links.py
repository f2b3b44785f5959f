"""Links of the repository's Markdown as links of the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

# Code, which is left alone, or an inline link or picture, whose text may go over lines.
LINK = re.compile(r"(?P<code>`+[^`]+`+)|(?P<picture>!?)\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")
FENCE = re.compile(r" *(```|~~~)")


class LinkError(Exception):
    """Links of a page that lead nowhere."""


def with_site_links(text: str, page: str, places: Mapping[str, str], root: Path) -> str:
    """`text` with its links to files of the repository turned into links between pages of the site.

    A link to what is no page of the site, a folder or a source, becomes the name of it.

    Args:
        text: Markdown.
        page: the file that it comes from, as a path from `root` with `/`.
        places: for each such path where it stands in the site.
        root: the repository.

    Raises:
        LinkError: no such file or folder.
    """
    wrong: list[str] = []

    def change(found: re.Match[str]) -> str:
        if found["code"] or is_elsewhere(found["target"]):
            return found[0]
        path, mark, anchor = found["target"].partition("#")
        file = linked_file(page, path)
        if not (root / file).exists():
            wrong.append(f"{page}: {found['target']}: no such file")
            return found[0]
        if file not in places:
            return _named(found["text"], file)
        place = posixpath.relpath(places[file], posixpath.dirname(places[page]) or ".")
        return f"{found['picture']}[{found['text']}]({place}{mark}{anchor})"

    changed = "".join(part if is_code else LINK.sub(change, part) for part, is_code in parts(text))
    if wrong:
        raise LinkError("\n".join(wrong))
    return changed


def parts(text: str) -> Iterator[tuple[str, bool]]:
    """Prose and blocks of code in their order, and whether a part is code; joined they are the text."""
    held: list[str] = []
    in_code = False
    for line in text.splitlines(keepends=True):
        if FENCE.match(line) is None:
            held.append(line)
            continue
        before, held = [*held, line] if in_code else held, [] if in_code else [line]
        yield "".join(before), in_code
        in_code = not in_code
    yield "".join(held), in_code


def is_elsewhere(target: str) -> bool:
    """Whether a link's target is on the same page, or in the web."""
    return target.startswith("#") or re.match(r"[a-z]+:", target) is not None


def linked_file(page: str, path: str) -> str:
    """The path from the repository's root of what a page calls `path`."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), path))


def _named(text: str, file: str) -> str:
    """The link's text and, where that does not say it, the file."""
    return text if text.strip("`") == file else f"{text} (`{file}`)"

"""The folder of Markdown that the site is built from, out of the repository's files.

A generator of sites reads one folder, in Python's dialect of Markdown. The documentation is written for the
repository's page as well: it links to benchmarks and sources, and has lists as CommonMark reads them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from .commands import commands
from .links import LinkError, with_site_links
from .lists import for_python_markdown
from .public_names import names_left

PAGES_ELSEWHERE = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "model_repository/README.md": "model-repository.md",
}
# What a link to a folder leads to.
FOLDERS = {"benchmarks": "benchmarks/index.md", "docs/decisions": "decisions/README.md"}
BENCHMARKS = """# Benchmarks
What was measured, each with the command that measured it, the hardware, and what disturbed it. A number in this
documentation that has no source beside it comes from here, or from a test.

<!-- benchmarks -->
"""


class SiteError(Exception):
    """A page can't be made; says which, and why."""


def prepare(root: Path, out: Path) -> None:
    """Writes the pages of `root` and what they show into `out`, an empty or missing folder.

    Raises:
        SiteError: links that lead nowhere, all of them.
    """
    places = site_places(root)
    wrong: list[str] = []
    for source, place in places.items():
        target = out / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if not source.endswith(".md"):
            shutil.copyfile(root / source, target)
            continue
        try:
            text = with_site_links((root / source).read_text(encoding="utf-8"), source, places | FOLDERS, root)
        except LinkError as error:
            wrong.append(str(error))
            continue
        target.write_text(for_python_markdown(_filled(text, root)), encoding="utf-8")
    if wrong:
        raise SiteError("\n".join(wrong))
    (out / "benchmarks" / "index.md").write_text(_filled(BENCHMARKS, root), encoding="utf-8")


def site_places(root: Path) -> dict[str, str]:
    """Where each file of the repository stands in the site, both as paths with `/`."""
    docs = {path: path.relative_to(root / "docs") for path in sorted((root / "docs").rglob("*")) if path.is_file()}
    benchmarks = {path: path.relative_to(root) for path in sorted((root / "benchmarks").glob("*.md"))}
    found = {path.relative_to(root).as_posix(): place.as_posix() for path, place in (docs | benchmarks).items()}
    return {name: place for name, place in found.items() if "__pycache__" not in name} | PAGES_ELSEWHERE


def _filled(text: str, root: Path) -> str:
    """With what is made from the code and from other pages in place of the marks for it."""
    makers: dict[str, Callable[[], str]] = {
        "<!-- commands -->": commands,
        "<!-- decisions -->": lambda: _contents(root / "docs" / "decisions"),
        "<!-- benchmarks -->": lambda: _contents(root / "benchmarks"),
        "<!-- what else is public -->": lambda: names_left(text),
    }
    for mark, make in makers.items():
        if mark in text:
            text = text.replace(mark, make())
    return text


def _contents(folder: Path) -> str:
    """A line for each page of a folder, with its title."""
    pages = [path for path in sorted(folder.glob("*.md")) if path.name != "README.md"]
    return "\n".join(f"- [{_title(path)}]({path.name})" for path in pages)


def _title(page: Path) -> str:
    """Its first heading; of a decision with its number."""
    title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    number = page.name.partition("-")[0]
    return f"{number} {title.removeprefix(number).strip()}" if number.isdigit() else title

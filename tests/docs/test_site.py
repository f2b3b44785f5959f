"""The pages of the site as they are prepared: links, lists, what is made from the code, nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import protoclip
import protoclip.client
import protoclip.search
from scripts import load_script

ROOT = Path(__file__).parents[2]
PREPARE = """
import sys
from pathlib import Path
from scripts.site.prepare import prepare
prepare(Path("."), Path(sys.argv[1]))
"""
links: Any = load_script("scripts/site/links.py")
lists: Any = load_script("scripts/site/lists.py")
self_contained: Any = load_script("scripts/site/self_contained.py")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages, as the site is built from them."""
    folder = tmp_path_factory.mktemp("site") / "pages"
    done = subprocess.run([sys.executable, "-c", PREPARE, folder], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_command_is_described(pages: Path) -> None:
    from typer.main import get_command

    from protoclip.cli import app

    text = (pages / "reference" / "commands.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    root = get_command(app)
    inner = {name: getattr(command, "commands", None) for name, command in root.commands.items()}  # type: ignore[attr-defined]
    wanted = [f"protoclip {name}" for name, commands in inner.items() if commands is None]
    wanted += [f"protoclip {name} {one}" for name, commands in inner.items() for one in commands or ()]
    assert sorted(headings) == sorted(wanted)
    assert "| `--data <str>` | A table, shards" in text


def test_everything_public_is_in_the_reference_of_python(pages: Path) -> None:
    text = (pages / "reference" / "python.md").read_text(encoding="utf-8")
    shown = [name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)]
    public = {*protoclip.__all__, *protoclip.client.__all__, *protoclip.search.__all__} - {"__version__"}
    assert sorted(shown) == sorted(public)


def test_what_is_made_is_there(pages: Path) -> None:
    decisions = (pages / "decisions" / "README.md").read_text(encoding="utf-8")
    assert decisions.count("\n- [") == len(list((ROOT / "docs" / "decisions").glob("0*.md")))
    benchmarks = (pages / "benchmarks" / "index.md").read_text(encoding="utf-8")
    assert "(time_per_pair_2cores_202611.md)" in benchmarks
    assert not [
        page for page in pages.rglob("*.md") if re.search(r"^<!-- [\w ]+ -->$", page.read_text(), re.MULTILINE)
    ]


def test_every_page_of_the_menu_exists(pages: Path) -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    named = re.findall(r"([\w/-]+\.md)$", menu, re.MULTILINE)
    assert len(named) > 30
    assert [name for name in named if not (pages / name).is_file()] == []


PLACES = {
    "docs/a.md": "a.md",
    "docs/b/c.md": "b/c.md",
    "benchmarks/x.md": "benchmarks/x.md",
    "README.md": "readme.md",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for file in (*PLACES, "deploy/serve/probe.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("page", "text", "wanted"),
    [
        ("docs/a.md", "[x](../benchmarks/x.md#seen)", "[x](benchmarks/x.md#seen)"),
        ("docs/b/c.md", "[x](../../benchmarks/x.md) and [a](../a.md)", "[x](../benchmarks/x.md) and [a](../a.md)"),
        ("benchmarks/x.md", "[a\nb](../docs/a.md)", "[a\nb](../a.md)"),
        ("docs/a.md", "![shown](b/c.md)", "![shown](b/c.md)"),
        ("docs/a.md", "[the probe](../deploy/serve/probe.py)", "the probe (`deploy/serve/probe.py`)"),
        ("docs/a.md", "[`deploy/serve`](../deploy/serve)", "`deploy/serve`"),
        ("docs/a.md", "[b](#b) [w](https://x.example/../y)", "[b](#b) [w](https://x.example/../y)"),
        ("docs/a.md", "`[x](nowhere.md)`", "`[x](nowhere.md)`"),
        ("docs/a.md", "```\n[x](nowhere.md)\n```\n[c](b/c.md)", "```\n[x](nowhere.md)\n```\n[c](b/c.md)"),
    ],
)
def test_links_lead_to_the_same_place_in_the_site(repository: Path, page: str, text: str, wanted: str) -> None:
    assert links.with_site_links(text, page, PLACES, repository) == wanted


def test_links_to_nowhere_are_told_together(repository: Path) -> None:
    with pytest.raises(links.LinkError) as told:
        links.with_site_links("[x](../y.md) [z](q.md#r)", "docs/b/c.md", PLACES, repository)
    assert str(told.value) == "docs/b/c.md: ../y.md: no such file\ndocs/b/c.md: q.md#r: no such file"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Said:\n- one\n- two\n  more\nend", "Said:\n\n- one\n- two\n    more\nend"),
        ("- one\n  - inner\n    more\n- two", "- one\n    - inner\n        more\n- two"),
        ("1. one\n   more\n2. two\n\nafter", "1. one\n    more\n2. two\n\nafter"),
        ("- one\n\nafter\n- two", "- one\n\nafter\n\n- two"),
        ("Said:\n| a |\n|---|\n| b |", "Said:\n\n| a |\n|---|\n| b |"),
        ("# Head\n- one", "# Head\n\n- one"),
        ("```\nx:\n- y\n  - z\n```", "```\nx:\n- y\n  - z\n```"),
        ("- one\n  ```\n  a\n    b\n  ```\n- two", "- one\n    ```\n    a\n      b\n    ```\n- two"),
        ("a - b\n-- c\n-1 or 2.5", "a - b\n-- c\n-1 or 2.5"),
    ],
)
def test_lists_and_tables_stay_what_they_are(text: str, wanted: str) -> None:
    assert lists.for_python_markdown(text) == wanted + "\n"


def test_pages_that_load_from_elsewhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "page.html").write_text(
        '<link rel="canonical" href="https://ok.example"><a href="https://ok.example">x</a><img src="../a.png">'
        '<script src="https://one.example/a.js"></script><link rel="stylesheet" href="//two.example/a.css">'
        '<img srcset="a.png 1x, https://three.example/b.png 2x"><p style="background: url(http://four.example/c)">'
    )
    (tmp_path / "a.css").write_text(
        "@import 'https://five.example/x.css'; a { background: url(data:image/png;base64,AA) }"
    )
    found = self_contained.external_resources(tmp_path)
    assert sorted(line.split("//")[1].partition(".")[0] for line in found) == [
        "five",
        "four",
        "one",
        "three",
        "two",
    ]

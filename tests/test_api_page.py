"""The public names and signatures are those of the page, on which users rely."""

from __future__ import annotations

import re
from pathlib import Path

import protoclip
from scripts import load_script

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "signatures.md"
page = load_script("scripts/api_page.py")


def test_the_page_is_that_of_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == page.api_page(), (
        "a public name or signature has changed: if that is meant, write the page anew with `make api-page`, and "
        "say so in the changelog"
    )


def test_every_public_name_is_there_once() -> None:
    names = re.findall(r"^### (\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(names) == len(set(names))
    assert set(protoclip.__all__) - {"__version__"} <= set(names)


def test_a_change_of_a_signature_changes_the_page() -> None:
    def add(vectors: list[float], k: int = 10, *, where: str | None = None) -> None:
        """Adds."""

    before = page._entry("add", add)
    add.__kwdefaults__ = {"where": len}
    assert "where: str | None = len)" in page._entry("add", add)
    assert "add(vectors: list[float], k: int = 10, *, where: str | None = None)\n" in before
    add.__kwdefaults__ = {"where": "anywhere"}
    assert page._entry("add", add) != before

"""Commands that pages show without running them are ones that protoclip understands."""

from __future__ import annotations

import re
import shlex

import pytest
from page_code import DOCS

from protoclip.config.catalogue import is_known

PAGES = sorted((DOCS / "coming-from").glob("*.md"))
_COMMAND = re.compile(r"`(protoclip [^`\n]+)`")


def shown() -> list[str]:
    return sorted({line for page in PAGES for line in _COMMAND.findall(page.read_text(encoding="utf-8"))})


@pytest.mark.parametrize("line", shown())
def test_a_command_is_understood(line: str) -> None:
    from typer.main import get_command

    from protoclip.cli import app

    words = [word for word in shlex.split(line) if word != "…"][1:]
    group = get_command(app)
    while commands := getattr(group, "commands", None):
        assert words[0] in commands, line
        group = commands[words.pop(0)]
        if not words and not hasattr(group, "commands"):
            break
    options = {option for one in group.params for option in (*one.opts, *one.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options
    is_whole = words and "…" not in line
    found = group.make_context("protoclip", words, resilient_parsing=not is_whole)
    for setting in found.params.get("settings") or ():
        assert is_known(setting.partition("=")[0]), setting


def test_there_are_commands() -> None:
    assert len(shown()) > 20

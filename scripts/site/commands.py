"""The reference of the commands, from what `--help` shows of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command


def commands() -> str:
    """A section of Markdown for each command, in the order of `protoclip --help`."""
    from protoclip.cli import app

    root = get_command(app)
    return "\n".join(_sections(root, root.make_context("protoclip", [], resilient_parsing=True)))


def _sections(group: Any, context: Any) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = command.context_class(command, info_name=name, parent=context)
        if command.hidden:
            continue
        if hasattr(command, "list_commands"):
            yield from _sections(command, inner)
        else:
            yield _section(command, inner)


def _section(command: Any, context: Any) -> str:
    name = context.command_path
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    head = [f"## {name}", "", _description(command.help or ""), "", f"```text\n{usage}\n```", ""]
    rows = [_row(*record) for one in command.get_params(context) if (record := one.get_help_record(context))]
    return "\n".join([*head, "| argument or option | |", "|---|---|", *rows, ""])


def _description(help_text: str) -> str:
    """Paragraphs, and what stands behind `Example:` as a block."""
    text, _, example = _plain(help_text).partition("Example:")
    paragraphs = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n") if part.strip())
    return (
        f"{_escaped(paragraphs)}\n\n```text\n{' '.join(example.split())}\n```" if example else _escaped(paragraphs)
    )


def _row(name: str, help_text: str) -> str:
    return f"| `{_plain(name)}` | {_escaped(' '.join(_plain(help_text).split()))} |".replace("\n", " ")


def _plain(text: str) -> str:
    """Without rich's escapes."""
    return text.replace("\\[", "[").replace("|", "/")


def _escaped(text: str) -> str:
    """For Markdown, but for what stands in backquotes."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\<>*_\[\]])", r"\\\1", part) for part in parts)

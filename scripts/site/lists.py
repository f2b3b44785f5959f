"""Lists and tables as CommonMark reads them, for Python's Markdown.

CommonMark begins a list or a table on the line after a paragraph, and nests an item below the text of the one
above. Python's Markdown wants an empty line before, and four blanks for each level.
"""

from __future__ import annotations

import re

FENCE = re.compile(r" *(```|~~~)")
ITEM = re.compile(r"( *)([-*+]|\d+\.)( +)")
TABLE = re.compile(r" *\|")
INDENT = 4


def for_python_markdown(text: str) -> str:
    """The same text with empty lines before lists and tables, and items indented by four blanks a level."""
    lines: list[str] = []
    columns: list[int] = []  # where the texts of the open items begin
    in_code = False
    for line in text.splitlines():
        is_border = FENCE.match(line) is not None
        if in_code:
            lines.append(_moved(line, columns))
        elif item := ITEM.match(line):
            columns = [column for column in columns if column <= len(item[1])]
            if not columns and not _in_list(lines):
                _part(lines)
            lines.append(" " * INDENT * len(columns) + line[len(item[1]) :])
            columns.append(item.end())
        else:
            columns = _still_open(line, columns, lines)
            if TABLE.match(line) and not TABLE.match(lines[-1] if lines else ""):
                _part(lines)
            lines.append(_moved(line, columns))
        in_code ^= is_border
    return "\n".join(lines) + "\n"


def _part(lines: list[str]) -> None:
    if lines and lines[-1].strip():
        lines.append("")


def _in_list(lines: list[str]) -> bool:
    """Whether the lines since the last empty one hold an item, so that one more belongs to its list."""
    for line in reversed(lines):
        if not line.strip():
            return False
        if ITEM.match(line):
            return True
    return False


def _still_open(line: str, columns: list[int], lines: list[str]) -> list[int]:
    """The items that a line which begins none belongs to."""
    indent = len(line) - len(line.lstrip(" "))
    if not line.strip():
        return columns
    inside = [column for column in columns if column <= indent]
    if inside or not lines or not lines[-1].strip():
        return inside
    # Without indentation, but right below an item's text: more of that text, unless something else begins.
    return [] if re.match(r"#|\||>|```|~~~", line) else columns


def _moved(line: str, columns: list[int]) -> str:
    """A line of an item's text, at the place that the item's text has now."""
    indent = len(line) - len(line.lstrip(" "))
    if not columns or indent < columns[0]:
        return line
    level = sum(column <= indent for column in columns)
    return " " * (INDENT * level + indent - columns[level - 1]) + line.lstrip(" ")

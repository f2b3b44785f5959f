"""The classes that `classify` and `classes build` are given: labels and templates, or a bank of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from protoclip.contract.errors import ConfigError, DataError
from protoclip.contract.zero_shot import TEMPLATES, find_templates

from .lines import read_lines
from .standard_input import StandardInput


def templates_of(given: Sequence[str], stdin: StandardInput) -> tuple[str, ...]:
    """Names of sets, texts with `{}` in them, and files with such a text a line, all in the given order.

    Raises:
        ConfigError: nothing of these, or a text with several `{}`.
        DataError: a file's line that is none of them, or a file without lines.
    """
    found: list[str] = []
    for one in given or ["plain"]:
        if one in TEMPLATES:
            found += TEMPLATES[one]
        elif "{}" in one:
            found += find_templates([one])
        elif Path(one).is_file():
            found += _of_file(one, stdin)
        else:
            raise ConfigError(
                f"--templates {one}: is no set ({', '.join(TEMPLATES)}), no text with {{}} where the label goes, "
                "and no file of such texts"
            )
    # A text that stands in two sets counts once: it would pull the mean towards itself.
    return tuple(dict.fromkeys(found))


def _of_file(name: str, stdin: StandardInput) -> list[str]:
    found = []
    for line in read_lines(name, "--templates", "templates, one a line,", stdin):
        if line.is_blank:
            continue
        reason = line.reason
        if reason is None and line.text.count("{}") != 1:
            reason = f"template {line.text!r} needs exactly one {{}} where the label goes"
        if reason is not None:
            raise DataError(f"{line.place}: {reason}")
        found.append(line.text)
    if not found:
        raise DataError(f"--templates {name}: holds no template: give one a line")
    return found

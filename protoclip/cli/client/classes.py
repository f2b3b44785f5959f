"""The classes that `classify` and `classes build` are given: labels and templates, or a bank of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from protoclip.client import ClassBank, Client
from protoclip.contract.errors import ConfigError, DataError
from protoclip.contract.zero_shot import TEMPLATES, find_templates

from .inputs import labels_of
from .lines import read_lines
from .standard_input import StandardInput


def find_classes(
    bank: Path | None,
    groups: Sequence[str],
    single: Sequence[str],
    file: str | None,
    templates: Sequence[str],
    stdin: StandardInput,
) -> Callable[[Client], ClassBank]:
    """What gives the classes for a client's model: those of `bank`, or labels that it embeds.

    Raises:
        ConfigError: labels or templates beside a bank; as `labels_of` and `templates_of`.
        ModelError: the bank can't be read.
        DataError: as `labels_of` and `templates_of`.
    """
    if bank is None:
        names, texts = labels_of(groups, single, file, stdin), templates_of(templates, stdin)
        return lambda client: client.class_bank(names, texts)
    if groups or single or file is not None or templates:
        raise ConfigError(f"--classes {bank} has labels and templates of its own: leave the others out")
    found = ClassBank.open(bank)

    def checked(client: Client) -> ClassBank:
        try:
            found.check_model(client.model)
        except ConfigError as error:
            raise ConfigError(f"{bank}: {error}") from error
        return found

    return checked


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

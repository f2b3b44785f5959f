"""`docs/settings.md`: every setting of a run. `python -m protoclip.config.settings_page FILE` writes it anew."""

from __future__ import annotations

import sys
from pathlib import Path

from .catalogue import Setting, SettingsSection, settings_sections

_HEAD = """# Every setting of a run

Made from the schema by `make settings-page`; `protoclip train --settings` prints the same in a terminal.

Settings are given in a TOML file, `protoclip train shop.toml`, or by `--set section.field=value`, whose values
are TOML too. What stands further left wins: `--set`, the file, `--preset`, what `--data` reads, the default.
`none` takes a setting back to its default. Paths in a file are relative to it. An unknown setting is an error
that names the nearest.

`B` is the global batch, `m` the pairs in an episode, `N` the pairs in the data, `K` the prototypes of a side.
"""


def settings_page() -> str:
    """The page in Markdown: a table for each section of the configuration."""
    return _HEAD + "".join(map(_section, settings_sections()))


def _section(section: SettingsSection) -> str:
    rows = "".join(map(_row, section.settings))
    head = "| setting | default | values | what it is | why this default |\n|---|---|---|---|---|\n"
    return f"\n## {section.name}\n{section.description}\n\n{head}{rows}"


def _row(setting: Setting) -> str:
    default = f"`{setting.default}`" if setting.default else "must be given"
    cells = (f"`{setting.name}`", default, setting.values, setting.description, setting.reason)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(settings_page(), encoding="utf-8")
